"""Factors of an update, and counts of steps, against the optimizers' formulas in NumPy."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import updates
from convoy.trainer.engines.depths import build_depths
from convoy.trainer.engines.tensorflow import updates as fused_updates
from convoy.trainer.models.build import build_model
from convoy.trainer.models.names import rules_of
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.optimizers.groups import Treatment, build_treatments
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.schedule import build_schedule

GOLDEN = Path(__file__).parents[1] / "trainer" / "golden" / "timm_depths.json"
RATE, DECAY = 0.1, 0.02


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model("article_cnn", (8, 8, 1), 10)


def built(model, optimizer: str, treatments: dict[str, Treatment], first_steps=(0,), decay: float = DECAY, fused=False):
    config = RunConfig(optimizer=optimizer, learning_rate=RATE, weight_decay=decay)
    made = build_optimizer(config, build_schedule(config, 1000), model)
    each = [treatments.get(variable.path.split("/", 1)[1], Treatment()) for variable in model.trainable_variables]
    updates.install(made, each, first_steps, decay, fused_updates.operations(made) if fused else None)
    return made


def step(made: keras.optimizers.Optimizer, model: keras.Model, gradient: float) -> None:
    variables = model.trainable_variables
    made.apply([keras.ops.full(variable.shape, gradient) for variable in variables], variables)


def value(model: keras.Model, path: str) -> np.ndarray:
    return next(v for v in model.trainable_variables if v.path.endswith(path)).numpy().astype(np.float64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_factors_of_one_leave_an_update_as_it_is(model, optimizer):
    before = [variable.numpy() for variable in model.trainable_variables]
    after = []
    for treatments, fused in (
        ({}, False),
        ({"conv/bias": Treatment(wd=0.0)}, False),
        ({}, True),
    ):  # a bias has none anyway
        for variable, weight in zip(model.trainable_variables, before, strict=True):
            variable.assign(weight)
        made = built(model, optimizer, treatments, fused=fused)
        step(made, model, 1.0)
        step(made, model, 0.5)
        after.append([variable.numpy() for variable in model.trainable_variables])
    for old, plain, *others in zip(before, *after, strict=True):
        assert np.abs(plain - old).max() > 1e-6
        for other in others:
            np.testing.assert_allclose(other, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("sgd", 1), ("adam", 1), ("adamw", 1), ("lion", 0), ("muon", 0), ("lamb", 0)]
)
def test_an_update_in_one_operation(model, optimizer, expected):
    made = built(model, optimizer, {}, fused=True)

    @tf.function(autograph=False)
    def update():
        step(made, model, 1.0)

    operations = [node.type for node in update.get_concrete_function().graph.get_operations()]
    count = sum(name in ("ResourceApplyKerasMomentum", "ResourceApplyAdam") for name in operations)
    assert count == expected * len(model.trainable_variables)
    assert not expected or "AssignSubVariableOp" not in operations


@pytest.mark.parametrize("fused", [False, True])
def test_sgd_moves_by_its_rate_times_the_factor_and_decays_by_both(model, fused):
    treatments = {"dense/kernel": Treatment(lr=0.25, wd=0.5), "logits/kernel": Treatment(wd=0.0)}
    made = built(model, "sgd", treatments, fused=fused)
    expected = {path: value(model, path) for path in ("conv/kernel", "dense/kernel", "logits/kernel", "dense/bias")}
    velocity = dict.fromkeys(expected, 0.0)
    rates = {"dense/kernel": 0.25 * RATE}
    decays = {"conv/kernel": DECAY, "dense/kernel": 0.5 * DECAY}
    for gradient in (1.0, -2.0, 0.5):
        step(made, model, gradient)
        for path in expected:
            rate, decay = rates.get(path, RATE), decays.get(path, 0.0)
            velocity[path] = 0.9 * velocity[path] - rate * gradient
            expected[path] = expected[path] * (1 - rate * decay) + 0.9 * velocity[path] - rate * gradient
    for path, weight in expected.items():
        np.testing.assert_allclose(value(model, path), weight, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_adam_corrects_its_bias_from_a_variables_own_first_step(model, optimizer, fused):
    late = {"conv/kernel": Treatment(stage=1, lr=0.5)}
    made = built(model, optimizer, late, first_steps=(0, 2), decay=0.0, fused=fused)
    rest = model.trainable_variables[1:]
    before = value(model, "conv/kernel")
    for _ in range(2):
        made.apply([keras.ops.ones(variable.shape) for variable in rest], rest)
    np.testing.assert_array_equal(value(model, "conv/kernel"), before)
    assert not any(slot.numpy().any() for slot in made.variables if "conv_kernel" in slot.path)
    step(made, model, 4.0)
    # The first step of Adam is the learning rate in the direction of the gradient.
    np.testing.assert_allclose(value(model, "conv/kernel"), before - 0.5 * RATE, rtol=1e-5, atol=1e-6)
    step(made, model, -1.0)
    momentum, velocity = 0.9 * 0.1 * 4.0 - 0.1, 0.999 * 0.001 * 16 + 0.001
    move = momentum / (1 - 0.9**2) / np.sqrt(velocity / (1 - 0.999**2))
    np.testing.assert_allclose(value(model, "conv/kernel"), before - 0.5 * RATE * (1 + move), rtol=1e-4, atol=1e-5)
    assert int(made.iterations) == 4


@pytest.mark.parametrize(
    "name",
    ["resnet18", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("resnet50", "efficientnet_lite0"))],
)
def test_factors_of_layer_decay_are_timms(name):
    """How many numbers are trained at which factor; timm's is layer_decay ** (largest depth - depth)."""
    sizes = json.loads(GOLDEN.read_text())["depths"][name]
    expected = {round(0.75 ** (len(sizes) - 1 - depth), 9): numbers for depth, (_, numbers) in enumerate(sizes)}
    model = build_model(name, (64, 64, 3), 10)
    variables = model.trainable_variables
    config = RunConfig(model=name, layer_decay=0.75)
    treat = build_treatments(config, [variable.path for variable in variables], build_depths(model, rules_of(name)))
    found: Counter[float] = Counter()
    for variable in variables:
        found[round(treat(variable.path).lr, 9)] += math.prod(variable.shape)
    assert found == expected
