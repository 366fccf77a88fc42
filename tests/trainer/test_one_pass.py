"""What the optimizers of one_pass.py share: master copies of weights of 16 bits, and methods that a subclass must have."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convoy.trainer.optimizers.lamb import LAMB
from convoy.trainer.optimizers.lars import LARS
from convoy.trainer.optimizers.layerwise import Layerwise
from convoy.trainer.optimizers.muon_conv import MuonConv
from convoy.trainer.optimizers.one_pass import OnePass
from convoy.trainer.optimizers.schedule_free import ScheduleFreeAdamW
from convoy.trainer.optimizers.sgd import SGDWithL2

pytestmark = pytest.mark.slow  # Keras, and XLA

RNG = np.random.default_rng(16)
WEIGHTS = {"kernel": RNG.normal(size=(4, 3)), "conv_kernel": RNG.normal(size=(3, 3, 2, 4)), "bias": np.zeros(3)}
GRADIENTS = [{name: RNG.normal(size=weight.shape) for name, weight in WEIGHTS.items()} for _ in range(4)]


def made(optimizer: type[OnePass], dtype: str, rounded: str) -> tuple[keras.optimizers.Optimizer, list[keras.Variable]]:
    """Weights and gradients are rounded to one type, and stored in another."""
    weights = [keras.ops.cast(keras.ops.cast(weight, rounded), dtype) for weight in WEIGHTS.values()]
    variables = [keras.Variable(weight, dtype=dtype, name=name) for name, weight in zip(WEIGHTS, weights, strict=True)]
    built = optimizer(0.003, weight_decay=0.02)
    built.build(variables)
    for gradients in GRADIENTS:
        built.apply([keras.ops.cast(keras.ops.cast(g, rounded), "float32") for g in gradients.values()])
    return built, variables


def bits(value: object) -> bytes:
    return np.asarray(keras.ops.convert_to_numpy(value), np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("optimizer", [LARS, LAMB, SGDWithL2, MuonConv, ScheduleFreeAdamW])
def test_weights_of_16_bits_have_a_master_copy(optimizer, dtype):
    """Else a step of a thousandth of a weight would be lost: they are the rounded weights of a run in float32."""
    small, of_16 = made(optimizer, dtype, dtype)
    large, of_32 = made(optimizer, "float32", dtype)
    for narrow, wide in zip(of_16, of_32, strict=True):
        assert bits(narrow) == bits(keras.ops.cast(wide, dtype))
    if optimizer is not ScheduleFreeAdamW:
        return
    for narrow, wide in zip(of_16, of_32, strict=True):
        assert bits(small.evaluation_value(narrow)) == bits(keras.ops.cast(large.evaluation_value(wide), dtype))
    before = [bits(variable) for variable in of_16]
    small.finalize_variable_values(of_16)
    assert [bits(variable) for variable in of_16] != before
    small.continue_training(of_16)
    assert [bits(variable) for variable in of_16] == before


@pytest.mark.parametrize("abstract", [OnePass, Layerwise])
def test_a_subclass_without_its_formula_is_refused(abstract):
    incomplete = type("Incomplete", (abstract,), {"slots": ()})
    with pytest.raises(TypeError, match="abstract"):
        incomplete(0.1, 0.0, ())
