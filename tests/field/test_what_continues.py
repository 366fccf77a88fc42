"""Where a run ends or is refused, the command that continues it stands there in full."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.store import open_store
from convoy.store.unused import none_left
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.outputs import summary
from convoy.trainer.outputs.display import Display
from convoy.trainer.run_dir import commands, endings, opening
from convoy.trainer.run_dir.stored_config import StoredConfig


def parsed(command: str) -> RunConfig:
    """The run of a command, as a shell would split it."""
    program, verb, *argv = shlex.split(command)
    assert (program, verb) == ("convoy", "train")
    return configuration.from_argv(argv)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--dataset=folder:/my photos/it's", "--image_size=96", "--augment=photo"],
        ["--accumulate=auto", "--deterministic", "--learning_rate=0.5", "--optimizer=sgd"],
        ["--duration=30min", "--groups=^stem:freeze;^logits/:lr=10", "--hang_timeout=3"],
        ["--pretrained=runs/one", "--unfreeze=3ep", "--seed=-1", "--restarts=10"],
    ],
    ids=lambda flags: " ".join(flags) or "defaults",
)
@pytest.mark.parametrize("run_dir", ["runs/one", "gs://bucket/a run"])
def test_the_command_of_a_run_is_read_as_that_run(flags, run_dir):
    config = configuration.from_argv([*flags, f"--run_dir={run_dir}"])
    assert parsed(commands.train(config)) == config
    resolved = config.with_defaults()
    assert parsed(commands.train(resolved)).with_defaults() == resolved
    assert len(shlex.split(commands.train(resolved))) == 3 + len(flags), "defaults are left out"


def test_a_flag_can_have_another_value():
    config = RunConfig(run_dir="runs/one", patience=3)
    assert parsed(commands.train(config, patience=6)) == dataclasses.replace(config, patience=6)


def begin(run_dir, **flags) -> RunConfig:
    """A run directory as a run leaves it that made no step yet, and its configuration."""
    config = dataclasses.replace(RunConfig(**flags).with_defaults(), run_dir=str(run_dir), precision="float32")
    config = dataclasses.replace(config, data=config.data.resolved(()))
    run_dir.mkdir()
    (run_dir / "config.json").write_bytes(config.to_json("0" * 32))
    (run_dir / "config.flags").write_text(config.to_flags())
    return config


def test_another_run_is_refused_with_the_command_of_the_one_that_is_there(tmp_path):
    stored = begin(tmp_path / "a run", batch_size=64)
    asked = RunConfig(run_dir=stored.run_dir, batch_size=32).with_defaults()
    with pytest.raises(exits.CannotRun) as refused:
        opening.refuse_differences(asked, StoredConfig(stored, ""), moves=True)
    *_, what, command = str(refused.value).splitlines()
    assert what == "To begin a new one, give another --run_dir. This continues the one that is there:"
    assert parsed(command) == stored


def test_of_a_bucket_no_flags_are_read_from_a_file():
    stored = RunConfig(batch_size=64)
    assert parsed(commands.of_directory(stored, "gs://b/r")) == dataclasses.replace(stored, run_dir="gs://b/r")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (42, "This continues it:"),
        (130, "This continues it:"),
        (65, "Once that is mended, this continues it:"),
        (78, "Once that is mended, this continues it:"),
        (1, "Once that is mended, this continues it:"),
    ],
)
def test_below_the_end_of_a_run_stands_what_continues_it(tmp_path, code, says):
    begin(tmp_path / "run", batch_size=64)
    asked = RunConfig(run_dir=str(tmp_path / "run"), batch_size=64)
    first, command, end = endings.after(code, asked).split("\n")
    assert (first, end) == (says, "")
    assert parsed(command) == asked


@pytest.mark.parametrize("code", [0, 2, 70])
def test_what_nothing_continues_ends_without_a_command(tmp_path, code):
    begin(tmp_path / "run")
    assert endings.after(code, RunConfig(run_dir=str(tmp_path / "run"))) == ""


def test_a_run_that_was_not_begun_begins_again_and_one_that_is_refused_does_not(tmp_path):
    asked = RunConfig(run_dir=str(tmp_path / "run"))
    assert endings.after(130, asked).startswith("This begins it again:\n")
    assert endings.after(78, asked) == ""
    begin(tmp_path / "run", batch_size=64)
    assert endings.after(78, asked) == "", "another run lives there"


def test_a_bucket_may_be_away(tmp_path):
    asked = RunConfig(run_dir="gs://bucket/run")
    assert endings.after(42, asked).startswith("This continues it:\n")
    assert endings.after(78, asked) == ""


RESULT = {
    "step": 40, "epoch": 2.0, "examples": 80, "wall_seconds": 3.0, "train": {"images_per_second": None},
    "eval": {"split": "hash:0.1", "examples": 1, "accuracy": 1.0, "loss": 0.0}, "best": {"step": 8, "accuracy": 0.7},
}  # fmt: skip


@pytest.mark.parametrize(
    ("stopped", "flag"),
    [
        (None, "--duration=1.5ep"),
        ({"because": "patience", "evaluations_since_best": 2}, "--patience=4"),
        ({"because": "max_minutes", "evaluations_since_best": 0}, "--max_minutes=4.0"),
    ],
    ids=["finished", "patience", "max_minutes"],
)
def test_a_finished_run_says_what_trains_it_further(tmp_path, capsys, stopped, flag):
    asked = RunConfig(run_dir=str(tmp_path / "run"), duration="0.75ep", patience=2, max_minutes=1.5)
    stopped = stopped and {"step": 40, "of": 80, "minutes": 1.6, **stopped}
    summary.show_finished(Display(), asked, {**RESULT, "stopped_early": stopped}, open_store(asked.run_dir))
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  convoy train")]
    assert len(shown) == 1
    name, _, value = flag.removeprefix("--").partition("=")
    kind = type(getattr(asked, name))
    assert parsed(shown[0]) == dataclasses.replace(asked, **{name: kind(value)})
    assert getattr(parsed(shown[0]), name) != getattr(asked, name)


def test_where_no_test_split_was_the_end_says_so(tmp_path, capsys):
    asked = RunConfig(run_dir=str(tmp_path / "my run"))
    summary.show_end(Display(), asked, {**RESULT, "stopped_early": None}, None)
    out = capsys.readouterr().out
    assert "100.00% of 1 held-out example right" in out
    assert "Note: these examples chose the best checkpoint, so expect a little less of new ones" in out
    summary.show_end(Display(), asked, {**RESULT, "eval": {**RESULT["eval"], "split": "test"}}, None)
    assert "chose" not in capsys.readouterr().out


def test_a_folder_in_which_nothing_was_written_is_gone(tmp_path):
    run_dir = tmp_path / "runs" / "one"
    with pytest.raises(exits.CannotRun), none_left(str(run_dir)), open_store(str(run_dir)).locked():
        raise exits.CannotRun("there is no such data set.")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_is_used_stays(tmp_path):
    kept, used, shared = (tmp_path / name for name in ("kept", "used", "shared"))
    kept.mkdir()
    with none_left(str(kept)), none_left(str(used)):
        used.mkdir()
        (used / "config.json").write_text("{}")
    with open_store(str(shared)).locked(), none_left(str(shared / "below")):
        (shared / "below").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "shared", "used"]
    assert [path.name for path in shared.iterdir()] == [".lock"]
    with none_left(str(tmp_path / "new")):
        lock = open_store(str(tmp_path / "new")).locked()
        lock.__enter__()
    assert (tmp_path / "new" / ".lock").exists(), "another process has it"
    lock.__exit__(None, None, None)


def test_the_command_stays_short():
    config = RunConfig(run_dir="runs/x", data=DataConfig("cifar10"))
    assert commands.train(config) == "convoy train --dataset=cifar10 --run_dir=runs/x"
