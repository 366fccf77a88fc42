"""The front door answers at once, in sentences, with the right code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from convoy.cli import CONVOY

pytestmark = pytest.mark.slow  # processes

HEAVY = ("tensorflow", "keras", "jax", "numpy", "sklearn", "matplotlib", "rich", "tensorflow_datasets", "google")


PROGRAM = """
import contextlib, io, json, sys
from convoy import exits
from convoy.cli import dispatch

heavy = {}
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(exits.ConvoyError):
        dispatch(argv)
    heavy[" ".join(argv)] = sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:]))
print(json.dumps(heavy))
"""
REFUSED = [
    "--ema=2", "--optimizer=adma", "--model=resnet81", "--loss=focl", "--schedule=cosin:3", "--duration=10", "--backend=torch",
    "--augment=articel", "--dataset=folder:", "--batchsize=3", "--devices=tpu:4",
]  # fmt: skip


def test_nothing_heavy_is_imported_by_help_or_by_a_refusal():
    """Of all verbs, and of flags of each kind; what one command imports shows at all that follow it."""
    helps = [[*words.split()[1:], "--help"] for words, _ in CONVOY.verbs()]
    cases = [["--help"], *([["train", flag] for flag in REFUSED]), *helps]
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(cases), *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout)
    assert len(imported) == len(cases) > 15
    for command, names in imported.items():
        # Verbs that read checkpoints may import NumPy, a tenth of a second; the others come first here.
        assert set(names) <= (set() if command.startswith(("--help", "train")) else {"numpy"}), (command, names)


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
