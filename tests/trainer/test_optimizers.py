"""Decoupled decay, what is left out of it, and what else --optimizer says."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convoy.trainer.config import RunConfig
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.schedule import build_schedule

pytestmark = pytest.mark.slow  # Keras, and XLA

EXAMPLES = 1000


def stepped(optimizer: str, decay: float, **flags: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """path -> (before, after) one update with zero gradients: what is left is weight decay."""
    keras.utils.set_random_seed(0)
    model = build_model("article_cnn", (8, 8, 1), 10)
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    config = RunConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=decay, **flags)
    built = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    built.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    return {v.path: (before[v.path], v.numpy()) for v in model.trainable_variables}


@pytest.mark.parametrize("optimizer", sorted({*OPTIMIZERS} - {"lars", "lamb"}))
def test_weight_decay_is_decoupled_and_leaves_biases_alone(optimizer):
    for path, (before, after) in stepped(optimizer, 0.02).items():
        factor = 1.0 if path.endswith("bias") else 1 - 0.1 * 0.02
        np.testing.assert_allclose(after, before * factor, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("optimizer", ["lars", "lamb"])
def test_weight_decay_alone_moves_a_layer_by_its_rate_and_leaves_biases_alone(optimizer):
    """It stands inside the trust ratio: its size says nothing where there is no gradient."""
    part = 0.1 * (0.001 if optimizer == "lars" else 1)
    for path, (before, after) in stepped(optimizer, 0.02).items():
        factor = 1.0 if path.endswith("bias") else 1 - part
        np.testing.assert_allclose(after, before * factor, rtol=1e-5, err_msg=path)


def test_l2_goes_through_the_momentum():
    """Nesterov's first step is (1 + momentum) times rate times decay."""
    for path, (before, after) in stepped("sgd", 0.02, weight_decay_mode="l2").items():
        factor = 1.0 if path.endswith("bias") else 1 - 1.9 * 0.1 * 0.02
        np.testing.assert_allclose(after, before * factor, rtol=1e-6, err_msg=path)


def test_small_variables_have_the_plain_rate_whatever_their_names():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.LayerNormalization(), keras.layers.Dense(3)])
    model.layers[0].gamma._name = "scale"
    config = RunConfig(optimizer="lars", learning_rate=1.0)
    lars = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    before = [variable.numpy() for variable in model.trainable_variables]
    lars.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    moved = [np.abs(v.numpy() - b).max() for v, b in zip(model.trainable_variables, before, strict=True)]
    assert [round(float(m), 5) == 1.0 for m in moved] == [True, True, False, True]


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


@pytest.mark.parametrize("mode", ["decoupled", "l2"])
def test_sgd_is_nesterov(mode):
    keras.utils.set_random_seed(0)
    model = build_model("article_cnn", (8, 8, 1), 10)
    config = RunConfig(optimizer="sgd", learning_rate=0.1, weight_decay_mode=mode)
    sgd = build_optimizer(config, build_schedule(config, EXAMPLES), model)
    variable = model.trainable_variables[0]
    weight, velocity = variable.numpy().astype(np.float64), 0.0
    for gradient in (1.0, -2.0, 0.5):
        gradients = [keras.ops.zeros(v.shape) + gradient for v in model.trainable_variables]
        sgd.apply(gradients, model.trainable_variables)
        velocity = 0.9 * velocity - 0.1 * gradient
        weight += 0.9 * velocity - 0.1 * gradient
    np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-5, atol=1e-6)
