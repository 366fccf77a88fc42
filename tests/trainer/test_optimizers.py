"""Schedules against NumPy, decoupled decay, and what is left out of it."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.names import SCHEDULES
from convoy.trainer.schedules.schedule import build_schedule

EXAMPLES = 1000  # 10 steps an epoch of batch 100, 100 steps in 10 epochs


def rates(**values) -> np.ndarray:
    schedule = build_schedule(RunConfig(batch_size=100, learning_rate=0.5, **values), EXAMPLES)
    return np.array([float(schedule(step)) for step in range(101)])


FORMULAS = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "polynomial:3": lambda t: (1 - t) ** 3,
    "polynomial": lambda t: (1 - t) ** 2,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "step": lambda t: 1.0 if t < 1 / 3 else 0.1 if t < 2 / 3 else 0.01,  # without warm-up
}


def test_every_schedule_has_a_formula_here():
    assert {schedule.partition(":")[0] for schedule in FORMULAS} == set(SCHEDULES)


def test_a_schedule_is_asked_by_position():
    schedule = build_schedule(RunConfig(batch_size=100, learning_rate=0.5, schedule="linear"), EXAMPLES)
    assert [schedule.at(position, 100) for position in (0, 99, 100, 4321)] == [
        float(schedule(step)) for step in (0, 0, 1, 43)
    ]


@pytest.mark.parametrize("schedule", [schedule for schedule in FORMULAS if schedule != "step"])
@pytest.mark.parametrize("warmup", ["0st", "2ep"])
def test_schedules_are_the_formulas(schedule, warmup):
    after = FORMULAS[schedule]
    warm = 20 if warmup == "2ep" else 0
    expected = [0.5 * ((s + 1) / (warm + 1) if s < warm else after((s - warm) / (100 - warm))) for s in range(101)]
    assert rates(schedule=schedule, warmup=warmup) == pytest.approx(expected, abs=1e-6)


def test_a_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(exits.CannotRun, match="--warmup=10ep is as long as the run"):
        rates(warmup="10ep")


def test_steps_alone_fall_at_thirds():
    after = FORMULAS["step"]
    assert rates(schedule="step") == pytest.approx([0.5 * after(step / 100) for step in range(101)])


def test_steps_fall_at_their_fractions_of_the_run():
    got = rates(schedule="step:0.3,0.6", warmup="1ep")
    assert got[10:30] == pytest.approx(0.5)
    assert got[30:60] == pytest.approx(0.05)
    assert got[60:] == pytest.approx(0.005)


def stepped(optimizer: str, decay: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """path -> (before, after) one update with zero gradients: what is left is weight decay."""
    keras.utils.set_random_seed(0)
    model = build_model("article_cnn", (8, 8, 1), 10)
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    config = RunConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=decay)
    built = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    built.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    return {v.path: (before[v.path], v.numpy()) for v in model.trainable_variables}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_is_decoupled_and_leaves_biases_alone(optimizer):
    for path, (before, after) in stepped(optimizer, 0.02).items():
        factor = 1.0 if path.endswith("bias") else 1 - 0.1 * 0.02
        np.testing.assert_allclose(after, before * factor, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_weight_decay_is_none(optimizer):
    for path, (before, after) in stepped(optimizer, 0.0).items():
        np.testing.assert_array_equal(after, before, err_msg=path)


def test_muon_leaves_the_classifier_to_adam():
    model = build_model("article_cnn", (8, 8, 1), 10)
    config = RunConfig(optimizer="muon")
    muon = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    by_adam = {v.path for v in model.trainable_variables if muon._should_use_adamw(v)}
    assert {v.path for v in model.trainable_variables} - by_adam == {"article_cnn/dense/kernel"}


def test_sgd_is_nesterov():
    keras.utils.set_random_seed(0)
    model = build_model("article_cnn", (8, 8, 1), 10)
    config = RunConfig(optimizer="sgd", learning_rate=0.1)
    sgd = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    variable = model.trainable_variables[0]
    weight, velocity = variable.numpy().astype(np.float64), 0.0
    for gradient in (1.0, -2.0, 0.5):
        gradients = [keras.ops.zeros(v.shape) + gradient for v in model.trainable_variables]
        sgd.apply(gradients, model.trainable_variables)
        velocity = 0.9 * velocity - 0.1 * gradient
        weight += 0.9 * velocity - 0.1 * gradient
    np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-5, atol=1e-6)
