"""LARS, LAMB and SGD with L2 against optax's weights, formulas in NumPy, and what large batches ask of them."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from convoy.trainer.optimizers.lamb import LAMB
from convoy.trainer.optimizers.lars import LARS
from convoy.trainer.optimizers.sgd import SGDWithL2

pytestmark = pytest.mark.slow  # Keras, and networks of its own

RECORD = json.loads((Path(__file__).parent / "golden" / "layerwise.json").read_text())
RATES = RECORD["rates"]
EXCLUDED = {"conv/bias", "bn/gamma"}


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """The recorded rates, times a factor."""

    def __init__(self, factor: float = 1.0):
        self.factor = factor

    def __call__(self, step):
        return self.factor * keras.ops.take(keras.ops.convert_to_tensor(RATES, keras.config.floatx()), step)


def arrays(flat: dict[str, list[float]], dtype: str = "float32") -> dict[str, np.ndarray]:
    return {name: np.asarray(flat[name], dtype).reshape(shape) for name, shape in RECORD["shapes"].items()}


def variables(values: dict[str, np.ndarray], dtype: str = "float32") -> dict[str, keras.Variable]:
    made = {}
    for path, value in values.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            made[path] = keras.Variable(value, dtype=dtype, name=name)
    return made


def weights_after(optimizer: keras.optimizers.Optimizer, dtype: str = "float32") -> dict[str, np.ndarray]:
    weights = variables(arrays(RECORD["weights"], dtype), dtype)
    optimizer.build(list(weights.values()))
    for gradients in RECORD["gradients"]:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in arrays(gradients, dtype).values()])
    return {path: variable.numpy() for path, variable in weights.items()}


def optimizer_of(case: str, **options) -> keras.optimizers.Optimizer:
    name, *settings = case.split()
    given = dict(setting.split("=") for setting in settings)
    decay = float(given["decay"])
    if name == "lamb":
        return LAMB(Table(0.1), weight_decay=decay, **options)
    return LARS(Table(), 0.9, decay, 0.1, given["nesterov"] == "True", **options)


def oracle(case: str) -> dict[str, np.ndarray]:
    """The formulas of the papers, in float64."""
    name, *settings = case.split()
    given = dict(setting.split("=") for setting in settings)
    weights = arrays(RECORD["weights"], "float64")
    first, second = ({path: np.zeros_like(w) for path, w in weights.items()} for _ in range(2))
    for step, (rate, gradients) in enumerate(zip(RATES, RECORD["gradients"], strict=True), 1):
        for path, gradient in arrays(gradients, "float64").items():
            weight, adapts = weights[path], path not in EXCLUDED
            decay = float(given["decay"]) * adapts
            if name == "lars":
                gradient = gradient + decay * weight
                moved = rate * ratio(weight, gradient, 0.1, adapts) * gradient
                first[path] = 0.9 * first[path] + moved
                weights[path] = weight - (0.9 * first[path] + moved if given["nesterov"] == "True" else first[path])
            else:
                first[path] = 0.9 * first[path] + 0.1 * gradient
                second[path] = 0.999 * second[path] + 0.001 * gradient**2
                root = np.sqrt(second[path] / (1 - 0.999**step)) + 1e-6
                update = first[path] / (1 - 0.9**step) / root + decay * weight
                weights[path] = weight - 0.1 * rate * ratio(weight, update, 1, adapts) * update
    return weights


def ratio(weight: np.ndarray, update: np.ndarray, coefficient: float, adapts: bool) -> float:
    norms = np.linalg.norm(weight), np.linalg.norm(update)
    return coefficient * norms[0] / norms[1] if adapts and min(norms) > 0 else 1.0


@pytest.mark.parametrize("case", RECORD["after"])
def test_ten_steps_are_those_of_optax(case):
    for path, weight in weights_after(optimizer_of(case)).items():
        np.testing.assert_allclose(weight, arrays(RECORD["after"][case])[path], rtol=0, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("case", RECORD["after"])
def test_ten_steps_are_those_of_the_papers(case):
    keras.config.set_floatx("float64")
    expected = oracle(case)
    for path, weight in weights_after(optimizer_of(case), "float64").items():
        np.testing.assert_allclose(weight, expected[path], rtol=0, atol=1e-12, err_msg=path)


def test_sgd_with_l2_is_lars_without_layers():
    """The same momentum, and decay that passes through it."""
    everything = r"."
    case = "lars decay=0.02 nesterov=True"
    plain = weights_after(optimizer_of(case, exclude_from_layer_adaptation=[everything]))
    for path, weight in weights_after(SGDWithL2(Table(), 0.9, 0.02)).items():
        np.testing.assert_array_equal(weight, plain[path])


def one_step(optimizer: keras.optimizers.Optimizer, weight: list[float], gradient: tuple[float, float] = (0.6, 0.8)):
    variable = keras.Variable(np.float32(weight), name="kernel")
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(np.float32(gradient))])
    return variable.numpy().round(6).tolist()


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_lars_moves_what_is_zero(decay):
    assert one_step(LARS(1.0, weight_decay=decay), [0.0, 0.0]) == pytest.approx([-0.6, -0.8])


def test_one_step_where_libraries_disagree():
    """docs/large-batch.md shows these numbers."""
    steps = RECORD["one step"]
    assert one_step(LARS(1.0), [3.0, 4.0]) == pytest.approx(steps["optax lars rate=1 decay=0"])
    assert one_step(LARS(1.0, weight_decay=0.01), [3.0, 4.0]) == pytest.approx(steps["optax lars rate=1 decay=0.01"])
    assert steps["timm lars rate=1 decay=0"] == pytest.approx([2.4, 3.2])  # no ratio without weight decay
    assert steps["timm lamb rate=0.1 decay=0"] == pytest.approx([2.9, 3.9], abs=1e-5)
    assert one_step(LAMB(0.1), [3.0, 4.0]) == pytest.approx(steps["optax lamb rate=0.1 decay=0"], abs=1e-5)
    decayed = one_step(LAMB(0.1, weight_decay=0.1), [3.0, 4.0])
    assert decayed == pytest.approx(steps["optax lamb rate=0.1 decay=0.1"], abs=1e-5)
    assert decayed == pytest.approx([2.660, 3.634], abs=1e-3)
    assert one_step(keras.optimizers.Lamb(0.1, weight_decay=0.1), [3.0, 4.0]) == pytest.approx([2.620, 3.610], abs=1e-3)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("optimizer", [LARS, LAMB])
def test_a_layer_moves_by_its_rate_whatever_the_scale_of_its_gradient(optimizer, scale):
    options = {"trust_coefficient": 1.0} if optimizer is LARS else {"epsilon": 1e-12}
    moved = np.array(one_step(optimizer(0.01, **options), [3.0, 4.0], (0.6 * scale, 0.8 * scale))) - [3.0, 4.0]
    assert np.linalg.norm(moved) == pytest.approx(0.01 * 5, rel=1e-4)


@pytest.mark.parametrize(
    "optimizer", [LARS(0.5, 0.8, 0.1, 0.01, True, 1e-8, ["a$"], ["b$"]), LAMB(0.5, 0.8, 0.9, 1e-5, 0.1, ["a$"])]
)
def test_a_configuration_makes_the_same_optimizer(optimizer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize("optimizer", [LARS, LAMB, SGDWithL2])
def test_plain_keras_trains_with_it(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    options = {"trust_coefficient": 0.5} if optimizer is LARS else {}
    model.compile(optimizer(0.05, **options), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, y, batch_size=32, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_a_schedule_stands_inside_the_momentum():
    """Rate 1, then 0: what the momentum holds moves the weight on, as in the paper's algorithm 1."""
    variable = keras.Variable(np.float32([3.0, 4.0]), name="kernel")
    optimizer = LARS(1.0)
    optimizer.build([variable])
    gradient = [keras.ops.convert_to_tensor(np.float32([0.6, 0.8]))]
    optimizer.apply(gradient)
    before = variable.numpy()
    optimizer.learning_rate = 0.0
    optimizer.apply(gradient)
    np.testing.assert_allclose(variable.numpy() - before, [-0.0027, -0.0036], atol=1e-6)
