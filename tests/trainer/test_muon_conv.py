"""What is a matrix, what is a unit, what is left to Adam; kernels of one shape in one product."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest

from convoy.trainer.config import RunConfig
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers import MuonConv, ScheduleFreeAdamW, muon_conv
from convoy.trainer.optimizers.adaptive_clipping import adaptive_clipping
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.optimizers.groups import Treatment
from convoy.trainer.optimizers.units import head_of, input_axes
from convoy.trainer.schedules.schedule import build_schedule

pytestmark = pytest.mark.slow  # Keras, and networks of its own


@pytest.fixture(scope="module")
def resnet() -> keras.Model:
    return build_model("resnet18", (32, 32, 3), 10)


def built(model: keras.Model) -> MuonConv:
    config = RunConfig(optimizer="muon_conv", weight_decay=0.1)
    return build_optimizer(config, build_schedule(config, 1000), model)


@pytest.mark.parametrize(
    ("path", "shape", "axes"),
    [
        ("conv/kernel", (3, 3, 16, 32), 3),
        ("dense/kernel", (16, 32), 1),
        ("depthwise/kernel", (3, 3, 16, 1), 2),
        ("depthwise/kernel", (3, 3, 16, 2), 3),
        ("attention/query/kernel", (64, 4, 16), 1),
        ("attention/attention_output/kernel", (4, 16, 64), 2),
        ("dense/bias", (32,), 0),
        ("scale", (), 0),
    ],
)
def test_units_are_the_last_axes(path, shape, axes):
    assert input_axes(types.SimpleNamespace(path=path, shape=shape)) == axes


def test_muon_takes_the_kernels_of_a_resnet_but_the_heads(resnet):
    optimizer = built(resnet)
    kernels = {v.path for v in resnet.trainable_variables if len(v.shape) > 1}
    by_muon = {v.path for v, matrix in zip(resnet.trainable_variables, optimizer._matrices, strict=True) if matrix}
    assert kernels - by_muon == {v.path for v in head_of(resnet) if len(v.shape) > 1} == {"logits/kernel"}
    assert by_muon < kernels
    assert len(by_muon) == 20
    # One momentum for a kernel of Muon's; two slots for a variable of Adam's.
    rest = len(resnet.trainable_variables) - len(by_muon)
    assert len(optimizer.variables) == 1 + len(by_muon) + 2 * rest


def test_kernels_of_one_shape_are_orthogonalized_together(monkeypatch):
    shapes, newton_schulz = [], muon_conv.newton_schulz

    def watched(stack, iterations):
        shapes.append(tuple(stack.shape))
        return newton_schulz(stack, iterations)

    monkeypatch.setattr(muon_conv, "newton_schulz", watched)
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=shape).astype("float32") for shape in ((4, 6), (6, 4), (5, 5), (4, 6))]
    results = muon_conv.orthogonalized([keras.ops.convert_to_tensor(matrix) for matrix in matrices], 5)
    assert shapes == [(3, 4, 6), (1, 5, 5)]
    for matrix, result in zip(matrices, results, strict=True):
        assert result.shape == matrix.shape
        np.testing.assert_allclose(
            result, muon_conv.orthogonalized([keras.ops.convert_to_tensor(matrix)], 5)[0], rtol=1e-5, atol=1e-5
        )
        assert 0.6 < np.linalg.svd(result, compute_uv=False).min() < np.linalg.svd(result, compute_uv=False).max() < 1.3


def test_embeddings_and_rows_are_left_to_adam():
    shapes = {"position_embedding/embeddings": (7, 4), "class_token": (1, 1, 4), "column/kernel": (4, 1)}
    optimizer = MuonConv()
    optimizer.build([keras.Variable(np.zeros(s, "float32"), name=p.replace("/", "_")) for p, s in shapes.items()])
    assert optimizer._matrices == [None, None, None]


def test_adaptive_clipping_leaves_the_head_alone(resnet):
    clipping = adaptive_clipping(0.01, resnet)
    unclipped = [v.path for v, n in zip(resnet.trainable_variables, clipping.axes, strict=True) if n is None]
    assert unclipped == ["logits/kernel", "logits/bias"]
    indices = [i for i, v in enumerate(resnet.trainable_variables) if "stem" in v.path or "logits" in v.path]
    variables = [resnet.trainable_variables[index] for index in indices]
    gradients = clipping([keras.ops.ones(v.shape) * 9 for v in variables], variables, indices)
    for variable, gradient in zip(variables, map(np.asarray, gradients), strict=True):
        if variable.path in unclipped:
            assert (gradient == 9).all()
            continue
        axes = tuple(range(len(variable.shape) - 1)) or None
        limit = 0.01 * np.maximum(np.linalg.norm(variable.numpy().reshape(-1, variable.shape[-1]), axis=0), 1e-3)
        if axes is None:
            limit = 0.01 * max(np.linalg.norm(variable.numpy()), 1e-3)
        np.testing.assert_allclose(np.sqrt((gradient**2).sum(axes)), limit, rtol=1e-5)


@pytest.mark.parametrize("optimizer", [MuonConv(0.1, momentum=0.8, exclude=["^x"]), ScheduleFreeAdamW(0.1, beta_1=0.8)])
def test_a_class_comes_back_from_its_configuration(optimizer):
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


def test_a_schedule_free_average_begins_at_a_variables_first_step():
    variables = [keras.Variable(np.ones(3, "float32"), name=name) for name in ("early", "late")]
    optimizer = ScheduleFreeAdamW(0.1)
    optimizer.build(variables)
    optimizer.treat([Treatment(), Treatment(stage=1)], [0, 2])
    for trained in (variables[:1], variables[:1], variables):
        optimizer.apply([np.ones(3, "float32") for _ in trained], trained)
    # The first average of all is the first step itself.
    np.testing.assert_allclose(optimizer.evaluation_value(variables[1]), 0.9, rtol=1e-5)
    np.testing.assert_allclose(optimizer.evaluation_value(variables[0]), 0.8, rtol=1e-5)
