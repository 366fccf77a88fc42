"""Convoy from Python: light to import, typed, and each flag a keyword argument."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import convoy
from convoy import exits, options
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.recipes import RecipeFlag
from support import REPOSITORY

KEYWORDS = REPOSITORY / "trainer" / "flags" / "keywords.py"
HEAD = '''"""The flags of `convoy train` as keyword arguments, for type checkers.

CONVOY_UPDATE_GOLDEN=1 pytest tests/convoy/test_api.py writes it from the flags.
"""

from __future__ import annotations

import os
from typing import TypedDict


class TrainFlags(TypedDict, total=False):
    """Those that are not the data set's name. `convoy train --help` says what each is."""

'''
PATHS = ("run_dir", "data_dir")


def keywords() -> str:
    lines = []
    for field in options.fields(RecipeFlag, RunConfig, DataConfig):
        kind = "float | None" if field.default is None else type(field.default).__name__
        kind = "str | os.PathLike[str]" if field.name in PATHS else kind
        lines += [f"    {field.name}: {kind}\n"] * (field.name != "dataset")
    return HEAD + "".join(lines)


def test_the_keywords_of_train_are_the_flags():
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        KEYWORDS.write_text(keywords())
    assert KEYWORDS.read_text() == keywords(), "CONVOY_UPDATE_GOLDEN=1 pytest tests/convoy/test_api.py writes it anew"


PROGRAM = """
import json, sys
import convoy
after_import = sorted(sys.modules)
assert {"train", "open", "Run"} <= set(dir(convoy))
from convoy import train, open, Run
convoy.exits
print(json.dumps([after_import, sorted(sys.modules)]))
"""


def test_importing_convoy_imports_next_to_nothing():
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, then = map(set, json.loads(done.stdout))
    assert {name for name in first if name.startswith("convoy")} == {"convoy"}
    assert not {"tensorflow", "keras", "jax", "rich", "matplotlib", "sklearn", "IPython"} & then
    assert "numpy" not in first
    with pytest.raises(AttributeError, match="module 'convoy' has no attribute 'trian'"):
        convoy.trian  # noqa: B018
    assert (REPOSITORY / "convoy" / "py.typed").exists()


# Flags


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """argv of every command that is called; each ends well. Evaluations and predictions write what is asked of them."""
    called = []

    def call(argv, show, tick=None, variables=None):
        called.append(argv)

    monkeypatch.setattr("convoy.api.call", call)
    return called


def test_flags_are_keyword_arguments(commands, tmp_path):
    run = convoy.train(
        "folder:photos", run_dir=tmp_path / "run", learning_rate=np.float32(0.5), batch_size=np.int64(8), deterministic=True,
        ema=0, duration="5ep", model="resnet18", hang_timeout=None,
    )  # fmt: skip
    assert run == convoy.Run(str(tmp_path / "run"))
    (argv,) = commands
    assert argv == [
        "train", "--dataset=folder:photos", f"--run_dir={tmp_path / 'run'}", "--learning_rate=0.5", "--batch_size=8",
        "--deterministic", "--ema=0.0", "--duration=5ep", "--model=resnet18",
    ]  # fmt: skip


def test_a_run_without_a_directory_gets_one_and_says_which(commands):
    run = convoy.train()
    assert run.run_dir.startswith("runs/digits-")
    assert commands == [["train", "--dataset=digits", f"--run_dir={run.run_dir}"]]


@pytest.mark.parametrize(
    ("flags", "kind", "sentence"),
    [
        ({"modle": "resnet18"}, exits.UsageError, "convoy.train has no argument modle; did you mean model?"),
        ({"zzz": 1}, exits.UsageError, "convoy.train has no argument zzz; `convoy train --help` lists"),
        ({"batch_size": "8"}, exits.UsageError, "convoy.train: batch_size is '8' and should be a whole number."),
        ({"deterministic": 1}, exits.UsageError, "deterministic is 1 and should be true or false"),
        ({"ema": 2.0}, exits.CannotRun, "--ema=2.0 is not possible"),
        ({"model": "resnet81"}, exits.CannotRun, "--model=resnet81 is not possible: did you mean resnet18?"),
        ({"augment": "articel"}, exits.CannotRun, "did you mean article?"),
    ],
    ids=repr,
)
def test_a_wrong_argument_is_an_exception_with_the_sentence(commands, flags, kind, sentence):
    with pytest.raises(kind) as error:
        convoy.train(**flags)
    assert sentence in str(error.value)
    assert not commands


def test_a_run_that_is_not_there_does_not_open(tmp_path):
    with pytest.raises(exits.CannotRun, match="is no run"):
        convoy.open(tmp_path)
    with pytest.raises(exits.CannotRun, match="is not finished"):
        convoy.Run(str(tmp_path)).result  # noqa: B018


def test_every_public_name_is_documented_and_typed():
    for name in convoy.__all__:
        member = getattr(convoy, name)
        assert inspect.getdoc(member), name
        for method in (m for k, m in vars(member).items() if inspect.isfunction(m) and not k.startswith("_")):
            assert inspect.getdoc(method), method
            assert "return" in inspect.get_annotations(method), method


TYPED = """
import convoy
run = convoy.train("folder:x", duration="5ep", batch_size=3)
reveal_type(run.predict("new/")[0].guesses[0].probability)
reveal_type(run.evaluate().accuracy)
convoy.train(modle="x")
convoy.train(batch_size="3")
"""


@pytest.mark.thorough
def test_a_type_checker_knows_the_flags(tmp_path):
    (tmp_path / "program.py").write_text(TYPED)
    argv = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run(
        [*argv, f"--cache-dir={tmp_path}", tmp_path / "program.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line.partition(" ")[2] for line in done.stdout.splitlines() if "defined in" not in line][:4]
    assert said == [
        'note: Revealed type is "float"',
        'note: Revealed type is "float"',
        'error: Unexpected keyword argument "modle" for "train"; did you mean "model"?  [call-arg]',
        'error: Argument "batch_size" to "train" has incompatible type "str"; expected "int"  [arg-type]',
    ], done
