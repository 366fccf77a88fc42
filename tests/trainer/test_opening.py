"""A run directory is looked at before anything heavy is imported, and opens without the run's data set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.cli import dispatch
from convoy.data.config import DataConfig
from convoy.store import open_store
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import open_run
from convoy.trainer.run import run
from convoy.trainer.run_dir import dataset
from convoy.trainer.run_dir.dataset import Preprocessing
from support import final_tensors, write_images

pytestmark = pytest.mark.slow

# Runs one of our modules in a process of its own, and says which heavy ones that imported.
PROGRAM = """
import sys
from convoy import exits
try:
    {work}
except exits.ConvoyError as error:
    print(error.code, str(error).splitlines()[0])
heavy = {{"tensorflow", "jax", "keras"}} & set(sys.modules)
print("heavy:", *sorted(heavy))
"""


def lines_of(work: str, cwd) -> list[str]:
    program = [sys.executable, "-P", "-c", PROGRAM.format(work=work)]
    return subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def train(run_dir="run", eval_split="hash:0.3", **flags):
    data = DataConfig("folder:photos", image_size=8, eval_split=eval_split)
    return run(RunConfig(run_dir, data, batch_size=8, duration="2st", ema=0.5, report=False, **flags))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with photos and a finished run on them."""
    home = tmp_path_factory.mktemp("finished")
    write_images(home / "photos", ("cat", "dog"), each=12)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(home)
        patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
        train()
    return home


@pytest.fixture
def home(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FLAGS = [
    "--run_dir=run", "--dataset=folder:photos", "--image_size=8", "--eval_split=hash:0.3", "--batch_size=8",
    "--duration=2st", "--ema=0.5", "--noreport",
]  # fmt: skip


def start(*flags: str) -> str:
    return f"from convoy.trainer.run import main; main({[*FLAGS, *flags]!r})"


def test_a_finished_run_says_so_before_anything_heavy_is_imported(home):
    before = {path: path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()}
    *said, heavy = lines_of(start(), home)
    assert heavy == "heavy:"
    assert said[0] == "run is finished: nothing is left to do of --duration=2st."
    assert any(line.startswith("Checkpoint run/checkpoints/00000002.1;") for line in said)
    assert before == {path: path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()}


def test_another_runs_directory_is_refused_before_anything_heavy_is_imported(home):
    assert lines_of(start("--batch_size=4"), home) == ["78 --run_dir=run holds another run:", "heavy:"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"precision": "float64"}, "--precision=float64, but the run was begun with --precision=float32"),
        ({"eval_split": "none"}, "--eval_split=none, but the run was begun with --eval_split=hash:0.3"),
        # What auto means is known from the splits that the data set had: there was no validation split.
        ({"eval_split": "auto"}, "--eval_split=hash:0.1, but the run was begun with --eval_split=hash:0.3"),
        ({"run_dir": "photos"}, "photos holds .* and is no run of Convoy"),
    ],
    ids=repr,
)
def test_what_is_refused_before_an_engine_is_chosen(home, monkeypatch, flags, said):
    monkeypatch.setattr("convoy.trainer.engines.choose", lambda backend: pytest.fail("an engine was chosen"))
    with pytest.raises(exits.CannotRun, match=said):
        train(**flags)


def test_a_run_of_an_older_version_is_refused_as_early(home, monkeypatch):
    monkeypatch.setattr("convoy.trainer.engines.choose", lambda backend: pytest.fail("an engine was chosen"))
    (home / "run" / "dataset.json").unlink()
    with pytest.raises(exits.CannotRun, match="--seed=4, but the run was begun with --seed=0"):
        train(seed=4, eval_split="auto")


def test_help_imports_nothing_heavy(tmp_path):
    work = "from convoy.cli import dispatch; dispatch(['train', '--help'])"
    assert lines_of(work, tmp_path)[-1] == "heavy:"


def test_a_run_of_an_older_version_is_finished_too_and_gets_its_description(home, capsys):
    (home / "run" / "dataset.json").unlink()
    with pytest.raises(
        exits.CannotRun, match="no dataset.json.*convoy train --flagfile=run/config.flags --run_dir=run"
    ):
        open_run("run")
    assert train()["step"] == 2
    assert "run is finished" in capsys.readouterr().out
    assert open_run("run").class_names == ("cat", "dog")


# open_run


def test_a_run_opens_without_its_data_set(home):
    shutil.rmtree("photos")
    opened = open_run("run")
    assert opened.class_names == ("cat", "dog")
    assert opened.image_shape == (8, 8, 3)
    assert opened.preprocessing == Preprocessing(image_size=8, divide_by=255)
    assert opened.checkpoint.step == 2
    assert opened.model(np.zeros((2, 8, 8, 3), np.float32)).shape == (2, 2)


def test_an_opened_model_has_the_averaged_weights(home):
    opened, saved = open_run("run"), final_tensors(home / "run")
    kernel = next(variable for variable in opened.model.trainable_variables)
    assert keras.ops.convert_to_numpy(kernel).tobytes() == saved[f"ema/{kernel.path}"].tobytes()
    assert saved[f"ema/{kernel.path}"].tobytes() != saved[f"model/{kernel.path}"].tobytes()


def test_a_copied_run_opens(home):
    assert dispatch(["checkpoints", "copy", "--run_dir=run", "--to=copied"]) == 0
    assert open_run("copied").class_names == ("cat", "dog")


def test_a_checkpoint_that_is_not_there_is_named(home):
    with pytest.raises(exits.CannotRun, match="no checkpoint of step 7"):
        open_run("run", checkpoint="7")
    with pytest.raises(exits.CannotRun, match="--run_dir=photos is no run"):
        open_run("photos")


def test_whose_code_a_run_names_is_asked_here_too(home, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = json.loads((home / "run" / "config.json").read_text())
    (home / "run" / "config.json").write_text(json.dumps({**config, "model": "strangers:model"}))
    (home / "strangers.py").write_text("raise SystemExit('imported')\n")
    with pytest.raises(exits.CannotRun, match="strangers:model, code that would run with your rights"):
        open_run("run")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"class_names": "ab"},
        {"class_names": [1]},
        {"image_shape": [8, 8, 3]},
        {"image_shape": {"height": 0, "width": 8, "channels": 3}},
        {"image_shape": {"height": 1 << 40, "width": 8, "channels": 3}},
        {"preprocessing": {"image_size": -1, "divide_by": 255}},
        {"preprocessing": {"image_size": 8, "divide_by": 0}},
        {"splits": None},
        {"epoch": 0},
        {"epoch": 10**3000},
    ],
    ids=repr,
)
def test_a_description_that_no_run_writes_is_bad_data(home, change):
    described = json.loads((home / "run" / "dataset.json").read_text())
    (home / "run" / "dataset.json").write_text(json.dumps({**described, **change}))
    with pytest.raises(exits.BadData, match="run/dataset.json"):
        dataset.read(open_store("run"))


# `convoy evaluate` of a run whose data set has no test split


def measured(**flags) -> dict:
    from convoy.trainer.processes.signals import Signals
    from convoy.trainer.verbs.evaluate import EvaluateConfig, evaluate

    return evaluate(EvaluateConfig("run", **flags), Signals())[0]


def test_without_a_test_split_it_measures_what_the_run_was_measured_on(home, capsys):
    from convoy.trainer.evaluation import show

    then = json.loads((home / "run" / "result.json").read_text())["eval"]
    now = measured()
    assert (now["split"], now["chose_checkpoint"]) == ("eval", True)
    assert (now["examples"], now["accuracy"]) == (then["examples"], then["accuracy"])
    show(now)
    assert (
        "Note: these examples chose the best checkpoint, so expect a little less of new ones" in capsys.readouterr().out
    )


def test_a_split_that_is_not_there_is_named(home):
    with pytest.raises(exits.CannotRun, match="folder:photos has no split test; it has train"):
        measured(split="test")


def test_what_is_not_there_is_refused_before_an_engine_is_chosen(home, monkeypatch):
    monkeypatch.setattr("convoy.trainer.engines.choose", lambda backend: pytest.fail("an engine was chosen"))
    with pytest.raises(exits.CannotRun, match="has no checkpoint of step 7"):
        measured(checkpoint="7")
    with pytest.raises(exits.CannotRun, match="--output=absent/a.json cannot be written: there is no folder absent"):
        measured(output="absent/a.json")
    with pytest.raises(exits.CannotRun, match="--dataset=folder:absent: absent does not exist"):
        measured(dataset="folder:absent")
