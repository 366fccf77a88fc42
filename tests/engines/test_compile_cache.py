"""Programs that JAX has compiled are kept: for whom, where, how many, and what happens to those that are not as they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache as jax_cache

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.jax import compile_cache
from convoy.trainer.engines.jax.compile_cache import Bucket, Folder, Programs

HIT = "/jax/compilation_cache/cache_hits"
# A run, and what JAX counts of programs meanwhile.
RUN = """
import collections, json, sys
import jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **kwargs: counts.update([event.rpartition("/")[2]]))
from convoy.trainer import run
run.main(sys.argv[1:])
print(json.dumps(counts))
"""


@pytest.fixture
def use(monkeypatch, tmp_path):
    """compile_cache.use, without what tests have set for JAX; all is as before afterwards."""
    monkeypatch.delenv(compile_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(jax_cache, "get_file_cache", jax_cache.get_file_cache)
    names = [*compile_cache._SETTINGS, "jax_compilation_cache_dir"]
    before = {name: getattr(jax.config, name) for name in names}
    yield compile_cache.use
    jax_cache.reset_cache()
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def hits():
    """The programs that JAX found kept."""
    events: list[str] = []

    def listen(event: str, **kwargs: object) -> None:
        events.extend([event] * (event == HIT))

    jax.monitoring.register_event_listener(listen)
    yield events
    jax.monitoring.unregister_event_listener(listen)


def compiled_anew(number: float) -> np.ndarray:
    jax.clear_caches()
    return np.asarray(jax.jit(lambda x: jnp.sin(x) * number)(np.arange(4, dtype=np.float32)))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_program_is_found_again_and_computes_the_same(use, hits, tmp_path):
    place = tmp_path / "cache" / "convoy" / "compiled"
    use("auto")
    first = compiled_anew(1.5)
    kept = entries(place)
    assert kept
    assert not hits
    assert place.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in kept} == {0o600}
    second = compiled_anew(1.5)
    assert hits
    np.testing.assert_array_equal(first, second)
    assert entries(place) == kept


def test_a_damaged_program_is_compiled_and_kept_anew(use, hits, tmp_path):
    use(str(tmp_path / "mine"))
    compiled_anew(2.5)
    kept = entries(tmp_path / "mine")
    for entry in kept:
        entry.write_bytes(entry.read_bytes()[:-9])
    compiled_anew(2.5)
    assert not hits
    assert entries(tmp_path / "mine") == kept
    compiled_anew(2.5)
    assert hits


def test_off_and_the_environment_keep_nothing_of_ours(use, tmp_path, monkeypatch):
    use("off")
    compiled_anew(3.5)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "theirs"))
    use("auto")
    assert jax.config.jax_compilation_cache_dir is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_that_others_may_write_is_not_read(use, hits, tmp_path, capsys, mode):
    folder = tmp_path / "shared"
    use(str(folder))
    compiled_anew(4.5)
    folder.chmod(mode)
    use("off")
    use(str(folder))
    compiled_anew(4.5)
    assert not hits
    assert f"others than you may write to {folder}" in capsys.readouterr().err


def test_an_entry_that_others_may_write_or_that_is_no_file_is_not_read(tmp_path):
    folder = Folder(tmp_path / "mine")
    programs = Programs(folder)
    programs.put("key", b"program")
    assert programs.get("key") == b"program"
    (entry,) = entries(tmp_path / "mine")
    entry.chmod(0o620)
    assert programs.get("key") is None
    content = entry.read_bytes()
    entry.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    entry.symlink_to(tmp_path / "elsewhere")
    assert programs.get("key") is None
    entry.unlink()
    os.mkfifo(entry)
    assert programs.get("key") is None


def test_the_folder_that_was_looked_at_is_the_one_that_is_read(tmp_path):
    programs = Programs(Folder(tmp_path / "mine"))
    programs.put("key", b"program")
    (tmp_path / "mine").rename(tmp_path / "away")
    (tmp_path / "mine").mkdir()
    assert programs.get("key") == b"program"
    assert entries(tmp_path / "mine") == []


def test_what_was_unused_for_longest_makes_room(tmp_path):
    programs = Programs(Folder(tmp_path / "mine", max_bytes=1000))
    for number, key in enumerate("abc"):
        programs.put(key, bytes(250))
        newest = max(entries(tmp_path / "mine"), key=lambda entry: entry.stat().st_mtime_ns)
        os.utime(newest, (1000 + number, 1000 + number))
    (tmp_path / "mine" / "theirs").write_bytes(bytes(900))  # is none of ours
    assert programs.get("a") is not None
    programs.put("d", bytes(250))
    assert [programs.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert (tmp_path / "mine" / "theirs").exists()


def test_a_place_that_cannot_be_used_is_told_once_and_ends_nothing(use, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    use(str(tmp_path / "file" / "below"))
    np.testing.assert_allclose(compiled_anew(5.5), np.sin(np.arange(4)) * 5.5, rtol=1e-5)
    assert "cannot be used (not a directory)" in capsys.readouterr().err

    class Full(Folder):
        def write(self, entry: str, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    programs = Programs(Full(tmp_path / "full"))
    programs.put("a", b"program")
    programs.put("b", b"program")
    assert capsys.readouterr().err.count("cannot be written (no space left on device)") == 1


@pytest.mark.slow
def test_a_bucket_is_read_where_it_is_trusted(bucket, use, hits):
    use(bucket, trusted=True)
    first = compiled_anew(6.5)
    assert not hits
    np.testing.assert_array_equal(first, compiled_anew(6.5))
    assert hits
    assert Bucket(bucket).read("0" * 64 + ".xla") is None


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"compile_cache": "gs://bucket/programs"}, "give --trust_compile_cache too"),
        ({"compile_cache": "s3://bucket/programs", "trust_compile_cache": True}, "gs://BUCKET/PATH"),
        ({"compile_cache": ""}, "give auto, off, a folder"),
    ],
)
def test_what_is_no_place_is_refused(flags, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        RunConfig(**flags)


@pytest.mark.thorough
def test_a_run_that_goes_on_after_a_kill_compiles_nothing_and_has_the_same_bits(tmp_path):
    flags = ["--dataset=digits", "--batch_size=32", "--checkpoint_every=1st", "--devices=cpu:1", "--backend=jax"]
    flags += ["--report=false", "--duration=3st", "--eval_every=1st"]
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    home |= {"MPLCONFIGDIR": str(tmp_path / "matplotlib"), "KERAS_HOME": str(tmp_path / "keras")}
    (tmp_path / "tmp").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | home

    def run(folder: str, *more: str, chaos: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", RUN, *flags, f"--run_dir={folder}", *more]
        return subprocess.run(
            argv, env={**environment, "CONVOY_CHAOS": chaos}, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert run("kept", chaos="kill:manifest@2").returncode == -signal.SIGKILL
    counts = json.loads(run("kept").stdout.splitlines()[-1])
    run("off", "--compile_cache=off").check_returncode()
    # One is new: the test split is measured in another batch than the held-out examples, and after the last step.
    assert counts["cache_hits"] == counts["compile_requests_use_cache"] - 1
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("kept", "off")]
    assert results[0]["eval"] == results[1]["eval"]
    kept, off = (sorted((tmp_path / name).glob("checkpoints/00000003.*/*.npz")) for name in ("kept", "off"))
    assert kept
    for ours, theirs in zip(kept, off, strict=True):
        tensors, wanted = np.load(ours), np.load(theirs)
        assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "kept", "keras", "matplotlib", "off", "tmp"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["convoy"]
    assert list((tmp_path / "tmp").iterdir()) == []
