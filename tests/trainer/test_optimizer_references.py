"""Muon, Lion, schedule-free AdamW, adaptive clipping and lookahead against other implementations, and formulas in float64.

optimizer_references.py recorded what the others make of ten steps, in float32, at a rate that rises and falls, with weights and
gradients that are 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from convoy.trainer.engines import lookahead
from convoy.trainer.flags.lookahead import LookaheadSpec
from convoy.trainer.optimizers import MuonConv, ScheduleFreeAdamW
from convoy.trainer.optimizers.adaptive_clipping import AdaptiveClipping
from convoy.trainer.optimizers.units import input_axes

pytestmark = pytest.mark.slow  # Keras, and networks of its own

RECORD = dict(np.load(Path(__file__).with_name("golden") / "optimizers.npz"))
RATES, STEPS, DECAY = RECORD["rates"], len(RECORD["rates"]), 0.05

Weights = dict[str, np.ndarray]


def recorded(label: str) -> Weights:
    shapes = json.loads(RECORD["shapes"].item())
    pieces = np.split(RECORD[label], np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {path: piece.reshape(shape) for (path, shape), piece in zip(shapes.items(), pieces, strict=True)}


def variables(dtype: str = "float32") -> dict[str, keras.Variable]:
    made = {}
    for path, value in recorded("first").items():
        layer, _, name = path.partition("/")
        with keras.name_scope(layer):
            made[path] = keras.Variable(value, dtype=dtype, name=name)
        assert made[path].path == path
    return made


def rates(peak: float) -> Callable:
    """A Keras schedule of the recorded rates."""

    class Recorded(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return peak * ops.take(ops.convert_to_tensor(RATES, keras.config.floatx()), ops.cast(step, "int32"))

    return Recorded()


def steps_of(optimizer: keras.optimizers.Optimizer, weights: dict[str, keras.Variable], change=None, dtype="float32"):
    """Makes the recorded steps."""
    trained = list(weights.values())
    if not optimizer.built:
        optimizer.build(trained)
    for step in range(STEPS):
        gradients = [np.asarray(recorded(f"gradient {step}")[path], dtype) for path in weights]
        optimizer.apply(change(gradients, [v.numpy() for v in trained]) if change else gradients, trained)


def assert_close(found: dict[str, keras.Variable] | Weights, expected: Weights, within: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    first = recorded("first")
    for path, value in expected.items():
        assert np.abs(value - first[path]).max() > 1e-4, f"{path} does not move"
        np.testing.assert_allclose(np.asarray(found[path]), value, rtol=0, atol=within, err_msg=path)


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rates(0.1))


def test_muon_is_optaxs():
    weights = variables()
    optimizer = MuonConv(
        rates(0.01), nesterov=False, weight_decay=DECAY, exclude=["^logits/"], epsilon=1e-8,
        exclude_from_weight_decay=[".*/(bias|gamma)$"],
    )  # fmt: skip
    steps_of(optimizer, weights)
    expected = recorded("muon nesterov=False")
    # optax decays no variable of its Adam.
    for path in ("logits/kernel",):
        del weights[path], expected[path]
    assert_close(weights, expected)
    assert [len(slots) for slots in optimizer._slots] == [1, 1, 1, 2, 2, 1, 1, 2, 2]


def test_muons_nesterov_is_keras_own_of_reshaped_kernels_and_not_optaxs():
    every = variables()
    weights = {path: every[path] for path in ("conv/kernel", "dense/kernel", "logits/kernel")}
    flat = {}
    for path in weights:
        value = recorded("first")[path]
        matrix = value.reshape(-1, 4) if value.ndim == 4 else value
        flat[path] = keras.Variable(matrix, name=path.replace("/", "_"))
    steps_of(MuonConv(rates(0.01), weight_decay=DECAY, exclude=["^logits/"]), weights)
    own = keras.optimizers.Muon(rates(0.01), weight_decay=DECAY, adam_weight_decay=DECAY, exclude_layers=["^logits_"])
    own.build(list(flat.values()))
    for step in range(STEPS):
        gradients = [recorded(f"gradient {step}")[path].reshape(variable.shape) for path, variable in flat.items()]
        own.apply(gradients, list(flat.values()))
    for path, weight in weights.items():
        np.testing.assert_allclose(
            np.reshape(weight, flat[path].shape), flat[path].numpy(), rtol=0, atol=1e-6, err_msg=path
        )
    others = recorded("muon nesterov=True")
    assert np.abs(weights["conv/kernel"].numpy() - others["conv/kernel"]).max() > 1e-4, (
        "optax corrects two biases in one"
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_its_formula_in_float64(nesterov):
    path = "conv/kernel"
    weights = {path: variables("float64")[path]}
    steps_of(MuonConv(rates(0.01), nesterov=nesterov, weight_decay=DECAY), weights, dtype="float64")
    weight, momentum = recorded("first")[path].astype(np.float64).reshape(18, 4), 0.0
    for step in range(STEPS):
        gradient, rate = recorded(f"gradient {step}")[path].astype(np.float64).reshape(18, 4), float(0.01 * RATES[step])
        momentum = 0.95 * momentum + gradient
        x = gradient + 0.95 * momentum if nesterov else momentum
        left, singular, right = np.linalg.svd(x, full_matrices=False)
        singular = singular / (np.sqrt((singular**2).sum()) + 1e-7)
        for _ in range(5):
            singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
        weight = weight * (1 - rate * DECAY) - rate * 0.2 * math.sqrt(18) * (left * singular) @ right
    np.testing.assert_allclose(weights[path].numpy().reshape(18, 4), weight, rtol=0, atol=1e-8)


def test_lion_is_optaxs():
    weights = variables()
    optimizer = keras.optimizers.Lion(rates(0.01), beta_1=0.9, beta_2=0.99, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
    steps_of(optimizer, weights)
    assert_close(weights, recorded("lion"))


def test_schedule_free_adamw_is_its_authors():
    weights = variables()
    optimizer = ScheduleFreeAdamW(rates(0.01), weight_decay=DECAY)
    steps_of(optimizer, weights)
    assert_close(weights, recorded("schedule-free y"))
    assert_close(
        {path: optimizer.evaluation_value(weight) for path, weight in weights.items()}, recorded("schedule-free x")
    )
    y = {path: weight.numpy() for path, weight in weights.items()}
    optimizer.finalize_variable_values(list(weights.values()))
    assert_close(weights, recorded("schedule-free x"))
    optimizer.continue_training(list(weights.values()))
    assert_close(weights, y)


def test_schedule_free_adamw_is_its_formula_in_float64():
    path = "dense/kernel"
    weights = {path: variables("float64")[path]}
    optimizer = ScheduleFreeAdamW(rates(0.01), weight_decay=DECAY)
    steps_of(optimizer, weights, dtype="float64")
    y = z = x = recorded("first")[path].astype(np.float64)
    square, largest, total = 0.0, 0.0, 0.0
    for step in range(STEPS):
        gradient, rate = recorded(f"gradient {step}")[path].astype(np.float64), float(0.01 * RATES[step])
        square = 0.999 * square + 0.001 * gradient**2
        z = z - rate * (gradient / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8) + DECAY * y)
        largest = max(largest, rate)
        total += largest**2
        x = x + largest**2 / total * (z - x)
        y = 0.1 * z + 0.9 * x
    np.testing.assert_allclose(weights[path].numpy(), y, rtol=0, atol=1e-8)
    np.testing.assert_allclose(optimizer.evaluation_value(weights[path]), x, rtol=0, atol=1e-8)


def test_adaptive_clipping_is_timms():
    weights = variables()
    axes = [None if path.startswith("logits") else input_axes(weight) for path, weight in weights.items()]
    clipping = AdaptiveClipping(0.1, axes)
    nesterov = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    steps_of(nesterov, weights, lambda gradients, values: clipping(gradients, values, range(len(axes))))
    assert_close(weights, recorded("agc"))


def test_lookahead_is_pytorch_optimizers_and_not_timms():
    weights, optimizer = variables(), sgd()
    optimizer.build(list(weights.values()))
    lookahead.install(optimizer, list(weights.values()), LookaheadSpec.parse("3:0.4"))
    steps_of(optimizer, weights)
    assert_close(weights, recorded("lookahead"))
    assert_close({path: optimizer.evaluation_value(w) for path, w in weights.items()}, recorded("lookahead slow"))
    late = recorded("timm lookahead")["conv/kernel"]  # whose slow weights begin where the first three steps led
    assert np.abs(weights["conv/kernel"].numpy() - late).max() > 1e-2
