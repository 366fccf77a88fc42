"""Frozen layers and stages of the TensorFlow engine: what a layer does, what is refused, and a way back to an earlier stage."""

from __future__ import annotations

import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

from convoy import exits
from convoy.data.sources.in_memory import InMemory
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.stages import stepping
from convoy.trainer.engines.tensorflow import Engine, prepare
from convoy.trainer.layers import Dropout, drawing

SHAPE, CLASSES, BATCH = (4, 4, 1), 3, 8
RNG = np.random.default_rng(0)
EXAMPLES = InMemory(RNG.integers(0, 256, (32, *SHAPE)), RNG.integers(0, CLASSES, 32))


def nested(shape, classes):
    """With the outline of networks for fine-tuning: a backbone with dropout in it, and dropout before the logits."""
    image = keras.Input(shape)
    x = layers.Dense(6, name="stem")(layers.Flatten()(image))
    x = layers.BatchNormalization(name="norm")(x)
    x = Dropout(0.5, name="inner_drop")(x)
    backbone = keras.Model(image, layers.Dense(6, name="last")(x), name="backbone")
    x = Dropout(0.5, name="head_dropout")(backbone(image))
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="nested")


@pytest.fixture(autouse=True)
def users(monkeypatch):
    monkeypatch.setitem(sys.modules, "users", types.SimpleNamespace(nested=nested))


def engine(**flags) -> Engine:
    runtime = prepare(RunConfig(model="users:nested", batch_size=BATCH, duration="9st", precision="float64", **flags))
    built = Engine(runtime, SHAPE, np.bincount(EXAMPLES.labels, minlength=CLASSES))
    built.feed(EXAMPLES, 0)
    return built


def active(built: Engine, stage: int) -> set[str]:
    """The layers that do in a step of a stage what they do in training alone."""
    x, positions = np.ones((BATCH, 6)), np.stack([np.arange(BATCH, dtype=np.uint32), np.zeros(BATCH, np.uint32)], 1)
    found = set()
    for layer in built.model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization | Dropout):
            with drawing(0, positions), stepping(built.parts.stages[stage]):
                if np.abs(layer(x, training=True) - layer(x, training=False)).max() > 1e-6:
                    found.add(layer.name)
    return found


ALL = {"norm", "inner_drop", "head_dropout"}


@pytest.mark.parametrize(
    ("flags", "stages"),
    [
        ({"unfreeze": "3st"}, [{"head_dropout"}, ALL]),
        ({"groups": "^logits/:lr=1;.:freeze"}, [{"head_dropout"}]),
        ({"groups": "gamma|beta:freeze"}, [ALL]),  # the statistics are no part of that, so the layer is not frozen
        ({"groups": "^norm/:freeze"}, [ALL - {"norm"}]),
        # Three blocks below the head, two borders: the first releases the last of them, with the dropout before it.
        ({"unfreeze": "3st,6st"}, [{"head_dropout"}, {"head_dropout", "inner_drop"}, ALL]),
    ],
    ids=["border", "head", "without statistics", "norm", "two borders"],
)
def test_frozen_layers_do_what_they_do_in_evaluation(flags, stages):
    built = engine(**flags)
    assert [active(built, stage) for stage in range(len(stages))] == stages


def test_what_freezes_everything_is_refused():
    with pytest.raises(exits.CannotRun, match=r"--groups=\.:freeze freezes all that would train; leave the head"):
        engine(groups=".:freeze")
    with pytest.raises(exits.CannotRun, match="freezes all that would train before step 3; leave the head"):
        engine(groups="logits:freeze", unfreeze="3st")


@pytest.mark.thorough  # the loop's tests show that it goes back
def test_a_way_back_to_an_earlier_stage_does_the_same_again():
    built = engine(optimizer="adam", unfreeze="2st", ema=0.9, deterministic=False)
    assert built.notes[-1] == "21 parameters train, 177 from step 2 on."
    built.train(1)
    state, ends = built.state(), []
    for _ in range(2):
        built.restore(state)
        built.feed(EXAMPLES, BATCH)
        for step, steps in ((1, 1), (2, 2)):
            built.enter_stage(step)
            built.train(steps)
        ends.append(built.state())
    assert all((ends[0][name] == value).all() for name, value in ends[1].items())
    assert (ends[0]["model/stem/kernel"] != state["model/stem/kernel"]).any()


def test_a_step_that_is_skipped_in_a_stage_changes_nothing_but_the_count():
    built = engine(optimizer="adam", unfreeze="2st", on_nan="skip", ema=0.9)
    kernel = next(v for v in built.model.trainable_variables if v.path == "logits/kernel")
    kernel.assign(np.full(kernel.shape, np.inf))
    before = built.state()
    assert not np.isfinite(built.train(1).losses).any()
    changed = [name for name, value in built.state().items() if not np.array_equal(value, before[name], equal_nan=True)]
    assert changed == ["optimizer/adam/iteration"]
