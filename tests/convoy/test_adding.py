"""What adding a name takes: a file, and a row. Each toy here is a module in a folder of its own and one row.

--help, validation, "did you mean" and the run itself follow from the row.
"""

from __future__ import annotations

import sys

import pytest

from convoy import cli, exits, help_text
from convoy.data.config import DataConfig
from convoy.table import Entry, Table
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.losses.names import LOSSES, LossEntry
from convoy.trainer.models.names import MODELS, ModelEntry
from convoy.trainer.optimizers.names import OPTIMIZERS, OptimizerEntry
from convoy.trainer.schedules.names import SCHEDULES, ScheduleEntry

pytestmark = pytest.mark.slow

TOYS = """
import keras
from convoy.options import option
from convoy.trainer.losses.cross_entropy import cross_entropy
from convoy.verbs import verb
import dataclasses

calls = []

def signs(schedule, weight_decay, model):
    calls.append("signs")
    return keras.optimizers.Lion(schedule, weight_decay=weight_decay)

def tiny(image_shape, num_classes, stochastic_depth):
    calls.append(f"tiny {stochastic_depth}")
    layers = [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)]
    return keras.Sequential(layers, name="tiny")

def root(moment, power):
    calls.append(f"root {power:g}")
    return (1.0 - moment.passed) ** (1 / power)

def halved(label_smoothing, draws):
    calls.append("halved")
    return lambda logits, labels, label_weights: 0.5 * cross_entropy(logits, labels, label_smoothing, label_weights)

@dataclasses.dataclass(frozen=True)
class Greeting:
    name: str = option("you", "whom to greet.", group="Greeting")

@verb("usage: convoy greet [--flag=value ...]", Greeting)
def greet(greeting):
    print(f"Hello, {greeting.name}.")
    return 7
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """The module, importable, with a row for each of its names."""
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("toys", None)

    def add(table: Table, name: str, row: Entry) -> None:
        monkeypatch.setitem(table.rows, name, row)

    add(OPTIMIZERS, "signs", OptimizerEntry("toys:signs", "the sign of a momentum", learning_rate=0.003))
    add(MODELS, "tiny", ModelEntry("toys:tiny", "one dense layer", options=("stochastic_depth",)))
    row = ScheduleEntry(
        "toys:root", "a root", argument="N", default=(2.0,), accepts=lambda n: n[0] > 0, remedy="give N"
    )
    add(SCHEDULES, "root", row)
    add(LOSSES, "halved", LossEntry("toys:halved", "half of the cross-entropy", source="Nobody 2026"))
    add(cli.CONVOY.table, "greet", Entry("toys:greet", "say hello"))
    yield sys.modules
    sys.modules.pop("toys", None)


def test_nothing_of_a_row_is_imported_before_it_is_used(toys):
    RunConfig(optimizer="signs", model="tiny", schedule="root:3", loss="halved")
    assert "toys" not in toys


def test_the_help_of_a_flag_has_the_row(toys):
    text = " ".join(help_text.of_verb("", RunConfig, DataConfig).split())
    for line in (
        "signs: the sign of a momentum",
        "0.003 for signs",
        "tiny: one dense layer",
        "--model=resnet18, resnet50, efficientnet_lite0 or tiny",
        "root:N: a root",
        "halved: half of the cross-entropy (Nobody 2026)",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("flag", "wrong", "right"),
    [
        ("optimizer", "sings", "signs"),
        ("model", "tinny", "tiny"),
        ("schedule", "rot:2", "root"),
        ("loss", "halve", "halved"),
    ],
)
def test_a_name_that_is_almost_the_rows_meets_did_you_mean(toys, flag, wrong, right):
    with pytest.raises(exits.CannotRun, match=f"--{flag}={wrong} is not possible: did you mean {right}?"):
        RunConfig(**{flag: wrong})
    with pytest.raises(exits.ConvoyError, match=f"did you mean {right}?"):
        configuration.from_argv([f"--{flag}={wrong}"])


def test_what_a_row_needs_is_validated(toys):
    assert RunConfig(optimizer="signs").with_defaults().learning_rate == 0.003
    assert RunConfig(schedule="root:3").schedule_spec.numbers == (3.0,)
    with pytest.raises(exits.CannotRun, match="--schedule=root:0 is not possible: give N"):
        RunConfig(schedule="root:0")
    with pytest.raises(exits.CannotRun, match="--loss=halved:2 is not possible: halved takes no numbers"):
        RunConfig(loss="halved:2")
    assert RunConfig(model="tiny", stochastic_depth=0.5).model_options == {"stochastic_depth": 0.5}
    with pytest.raises(exits.CannotRun, match="--model=article_cnn does not take it; .*, efficientnet_lite0 or tiny"):
        RunConfig(stochastic_depth=0.5)


def test_a_run_uses_the_rows(toys, tmp_path):
    from convoy.trainer import run

    config = RunConfig(
        str(tmp_path / "run"),
        DataConfig("synthetic:8x8x1:3:48"),
        model="tiny",
        stochastic_depth=0.25,
        optimizer="signs",
        schedule="root:4",
        loss="halved",
        batch_size=16,
        duration="2st",
        devices="cpu:1",
    )
    assert run.run(config)["step"] == 2
    assert {"tiny 0.25", "signs", "root 4", "halved"} <= set(toys["toys"].calls)


def test_a_verb_is_a_row_too(toys, capsys):
    assert cli.dispatch(["--help"]) == exits.OK
    assert "greet        say hello" in capsys.readouterr().out
    assert cli.dispatch(["greet", "--help"]) == exits.OK
    assert "--name               whom to greet. [you]" in capsys.readouterr().out
    assert cli.dispatch(["greet", "--name=Ada"]) == 7
    assert capsys.readouterr().out == "Hello, Ada.\n"
    with pytest.raises(exits.UsageError, match="did you mean `convoy greet`?"):
        cli.dispatch(["gret"])
    assert "convoy greet" in dict(cli.CONVOY.verbs()), "the documentation's flags are compared with all verbs' flags"
