"""The front door answers at once, in sentences, with the right code."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "jax", "numpy", "sklearn", "matplotlib", "rich", "tensorflow_datasets", "google")


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["train", "--ema=2"]])
def test_nothing_heavy_is_imported_before_a_run_starts(argv):
    program = f"""
import sys, os
os._exit = lambda code: sys.stderr.write(' '.join(sys.modules)) or sys.stderr.flush()
sys.argv = ['convoy', *{argv!r}]
from convoy.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert "convoy" in imported
    assert imported.isdisjoint(HEAVY), imported & set(HEAVY)


def test_help_lists_verbs_and_flags(convoy):
    verbs, flags = convoy("--help"), convoy("train", "--help")
    assert verbs.code == flags.code == 0
    assert "train" in verbs.out
    assert "evaluate" in verbs.out
    for flag in ("--run_dir", "--batch_size", "--dataset", "--restarts", "--flagfile"):
        assert flag in flags.out


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["trian"], 2, ["`convoy trian`", "convoy train"]),
        (["train", "--batchsize=64"], 2, ["--batchsize", "did you mean --batch_size?"]),
        (["train", "--batch_size=many"], 2, ["--batch_size=many"]),
        (["train", "--optimizer=adma"], 2, ["--optimizer=adma", "adam"]),
        (["train", "--augment=articel"], 78, ["--augment=articel", "did you mean article?"]),
        (["train", "digits"], 2, ["`digits`", "--name=value"]),
        (["train", "--flagfile=absent.flags"], 2, ["--flagfile", "absent.flags"]),
        (["train", "--batch_size=0"], 78, ["--batch_size=0", "from 1 to 16,777,216"]),
        (["evaluate"], 78, ["--run_dir"]),
        (["evaluate", "--run_dir=absent"], 78, ["--run_dir=absent", "no run"]),
    ],
)
def test_a_bad_command_ends_in_one_sentence(convoy, argv, code, words):
    outcome = convoy(*argv)
    assert outcome.code == code, outcome
    assert len(outcome.err.strip().splitlines()) == 1, outcome
    assert all(word in outcome.err for word in words), outcome
