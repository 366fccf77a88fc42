"""benchmarks/collectives.py: what it reads from an optimized program."""

from pathlib import Path

PROGRAM = """
  %all-reduce.1 = f32[923916]{0} all-reduce(%concatenate), channel_id=1, replica_groups={{0,1,2,3}}
  %all-reduce.2 = (f32[898]{0:T(1024)S(1)}, f32[2,128]{0:T(1024)}) all-reduce(%fusion, %concatenate.19), channel_id=1
  %all-reduce-start = f32[4725770]{0} all-reduce-start(%wrapped_concatenate), channel_id=1
  %all-reduce-done = f32[4725770]{0} all-reduce-done(%all-reduce-start)
  ROOT %add.0 = f32[] add(%all-reduce.1, %all-reduce.2)
"""


def test_sums(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import collectives

    assert collectives.sums(PROGRAM) == [(4 * 923916, False), (4 * (898 + 256), False), (4 * 4725770, True)]
