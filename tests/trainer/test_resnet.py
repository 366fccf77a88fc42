"""The residual networks are the published ones, whatever runs them."""

from __future__ import annotations

import functools
import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.models import resnet
from convoy.trainer.models.build import build_model
from support import environment

pytestmark = pytest.mark.slow

COLOUR, PHOTOGRAPH = (32, 32, 3), (224, 224, 3)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
STAGES = [f"stage{stage}" for stage in (1, 2, 3, 4)]


@functools.cache
def built(name: str, shape: tuple[int, int, int] = COLOUR, classes: int = 10) -> keras.Model:
    """As it is initialised; no test may change its weights."""
    return build_model(name, shape, classes)


def parameters(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def multiplications(model: keras.Model) -> int:
    """Multiply-adds of one image in convolutions and the classifier."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def blocks(name: str) -> list[str]:
    return [f"{stage}_block{n}" for stage, depth in zip(STAGES, BLOCKS[name], strict=True) for n in range(1, depth + 1)]


def names(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


def shake(model: keras.Model) -> None:
    """Weights and statistics in which every layer counts; at initialisation most branches are zero."""
    generator = np.random.default_rng(1)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "variance")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) < 2:
            variable.assign(generator.normal(0, 0.1, variable.shape))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count", "giga"),
    [
        # The counts and gigaflops that torchvision publishes with its weights. ResNet-50 with the stride in the first 1x1
        # convolution has the same count, but 3.86.
        ("resnet50", PHOTOGRAPH, 1000, 25_557_032, 4.089),
        ("resnet18", PHOTOGRAPH, 1000, 11_689_512, 1.814),
        # The count of https://github.com/kuangliu/pytorch-cifar; 0.555 is 1.8 + 151.0 + 3 * 134.2 million, by hand.
        ("resnet18", COLOUR, 10, 11_173_962, 0.555),
    ],
)
def test_parameters_and_work_are_the_published_ones(name, shape, classes, count, giga):
    model = built(name, shape, classes)
    assert parameters(model) == count
    assert round(multiplications(model) / 1e9, 3) == giga
    assert model.output_shape == (None, classes)
    assert model.layers[-1].activation is keras.activations.linear
    paths = [variable.path for variable in model.variables]
    assert len(set(paths)) == len(paths)
    assert {"stem_conv/kernel", "stage4_block2_bn2/moving_variance", "logits/bias"} < set(paths)
    assert not [path for path in paths if "conv" in path and path.endswith("bias")]


@pytest.mark.parametrize(
    ("shape", "stem", "sides"),
    [
        ((32, 32, 3), (3, 1), [32, 16, 8, 4]),
        ((63, 200, 3), (3, 1), [63, 32, 16, 8]),
        ((64, 64, 3), (7, 2), [16, 8, 4, 2]),
        ((224, 224, 3), (7, 2), [56, 28, 14, 7]),
        ((225, 227, 1), (7, 2), [57, 29, 15, 8]),
        ((8, 8, 1), (3, 1), [8, 4, 2, 1]),
    ],
)
def test_the_stem_is_chosen_by_the_shorter_side(shape, stem, sides):
    model = built("resnet18", shape)
    convolution = model.get_layer("stem_conv")
    assert (convolution.kernel_size[0], convolution.strides[0]) == stem
    assert ("stem_pool" in names(model)) == (stem == (7, 2))
    assert [model.get_layer(f"{stage}_block2_relu").output.shape[1] for stage in STAGES] == sides


@pytest.mark.parametrize("name", BLOCKS)
def test_where_the_strides_are(name):
    model = built(name)
    strided = {layer.name for layer in model.layers if getattr(layer, "strides", (1, 1)) != (1, 1)}
    which = "conv1" if name == "resnet18" else "conv2"
    assert strided == {f"{stage}_block1_{part}" for stage in STAGES[1:] for part in (which, "shortcut_conv")}
    assert {model.get_layer(layer).kernel_size for layer in strided} == {(1, 1), (3, 3)}


def test_padding_is_the_same_on_all_sides():
    """What is strided is centred on pixels 0, 2, 4, ... of an even image; Keras' "same" would centre it on 1, 3, 5, ..."""
    model = build_model("resnet18", (64, 64, 1), 10)
    tensors = []
    for name in ("stem_conv", "stage2_block1_conv1"):
        layer = model.get_layer(name)
        kernel = np.zeros(layer.kernel.shape)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        layer.kernel.assign(kernel)
        tensors.append((model.get_layer(f"{name}_pad").input, layer.output))
    tensors.append((model.get_layer("stem_pool_pad").input, model.get_layer("stem_pool").output))
    images = np.random.default_rng(2).random((1, 64, 64, 1))
    *convolutions, pool = [[np.asarray(x) for x in pair] for pair in keras.Model(model.input, tensors)(images)]
    for before, after in convolutions:
        centres = before.sum(-1, keepdims=True)[:, ::2, ::2]
        np.testing.assert_allclose(after, np.broadcast_to(centres, after.shape), rtol=1e-5)
    before, after = pool
    padded = np.pad(before, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    np.testing.assert_array_equal(after, windows.max((-2, -1))[:, ::2, ::2])


@pytest.mark.parametrize("name", BLOCKS)
def test_at_initialisation_a_block_passes_its_input_on(name):
    model = build_model(name, COLOUR, 10)
    identity = [block for block in blocks(name) if f"{block}_shortcut_conv" not in names(model)]
    assert len(identity) == {"resnet18": 8 - 3, "resnet50": 16 - 4}[name]
    pairs = [(model.get_layer(f"{block}_add").input[0], model.get_layer(f"{block}_relu").output) for block in identity]
    images = np.random.default_rng(4).random((2, *COLOUR))
    for training in (False, True):
        for before, after in keras.Model(model.input, pairs)(images, training=training):
            assert np.asarray(before).any()
            np.testing.assert_array_equal(after, np.maximum(before, 0))


def test_weights_begin_as_the_papers_have_them():
    model = built("resnet18")
    kernel = np.asarray(model.get_layer("stage4_block2_conv1").kernel)
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert np.abs(kernel).max() > 3 * kernel.std(), "not truncated"
    assert not np.array_equal(kernel, model.get_layer("stage4_block2_conv2").kernel)
    assert np.asarray(model.get_layer("logits").kernel).std() == pytest.approx(0.01, rel=0.1)
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(layer.momentum, layer.epsilon) for layer in normalizations} == {(0.9, 1e-5)}
    assert {layer.name for layer in normalizations if not np.asarray(layer.gamma).any()} == {
        f"{block}_bn2" for block in blocks("resnet18")
    }


@pytest.mark.parametrize("name", BLOCKS)
def test_stochastic_depth_grows_with_the_block(name, monkeypatch):
    rates = {}

    def recorded(rate, name):
        rates[name] = rate
        return keras.layers.Identity(name=name)

    monkeypatch.setattr(resnet, "StochasticDepth", recorded)
    build_model(name, COLOUR, 10)
    assert not rates
    model = build_model(name, COLOUR, 10, stochastic_depth=0.4)
    count = len(blocks(name))
    assert rates == {f"{block}_drop": pytest.approx(0.4 * (i + 1) / count) for i, block in enumerate(blocks(name))}
    last = {"resnet18": "bn2", "resnet50": "bn3"}[name]
    for block in blocks(name):
        drop, add = model.get_layer(f"{block}_drop"), model.get_layer(f"{block}_add")
        assert drop.input is model.get_layer(f"{block}_{last}").output
        assert add.input[1] is drop.output


def test_stochastic_depth_has_no_variables():
    """So that the weights of a run with it fit a model without, and are the same function there."""
    plain, dropping = (build_model("resnet18", COLOUR, 10, stochastic_depth=rate) for rate in (0.0, 0.2))
    shake(dropping)
    values = {variable.path: variable for variable in dropping.variables}
    assert values.keys() == {variable.path for variable in plain.variables}
    for variable in plain.variables:
        variable.assign(values[variable.path])
    images = np.random.default_rng(6).random((2, *COLOUR))
    np.testing.assert_allclose(dropping(images), plain(images), rtol=1e-5, atol=1e-5)


def test_colours_are_normalized_and_grey_is_not():
    model = built("resnet18")
    normalize = keras.Model(model.input, model.get_layer("normalize").output)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = np.broadcast_to(np.stack([mean, mean + deviation]), (1, 32, 16, 2, 3)).reshape(1, *COLOUR)
    expected = np.broadcast_to([[0.0], [1.0]], (1, 32, 16, 2, 3)).reshape(1, *COLOUR)
    np.testing.assert_allclose(normalize(pixels), expected, atol=1e-5)

    grey = build_model("resnet50", (28, 24, 1), 7)
    assert "normalize" not in names(grey)
    assert grey(np.zeros((2, 28, 24, 1))).shape == (2, 7)


@pytest.mark.parametrize("name", BLOCKS)
def test_images_that_are_too_small_are_a_sentence(name):
    with pytest.raises(
        exits.CannotRun, match=rf"--model={name} .* at least 8x8 pixels, these have 30x7; .*--image_size"
    ):
        build_model(name, (7, 30, 3), 10)


JAX = """
import sys
import keras, numpy
from convoy.trainer.models.build import build_model
assert keras.backend.backend() == "jax"
with numpy.load(sys.argv[1]) as given:
    model = build_model("resnet18", (32, 32, 3), 10)
    for variable in model.variables:
        variable.assign(given[variable.path])
    numpy.save(sys.argv[2], model.predict_on_batch(given["images"]))
"""


def test_jax_and_tensorflow_agree(tmp_path):
    pytest.importorskip("jax")
    model = build_model("resnet18", COLOUR, 10)
    shake(model)
    images = np.random.default_rng(5).random((2, *COLOUR), dtype=np.float32)
    np.savez(tmp_path / "given.npz", images=images, **{v.path: np.asarray(v) for v in model.variables})
    done = subprocess.run(
        [sys.executable, "-P", "-c", JAX, tmp_path / "given.npz", tmp_path / "logits.npy"],
        # Optimizing is most of the time: every initial kernel is a program of its own.
        env=environment(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", JAX_DISABLE_MOST_OPTIMIZATIONS="1"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = np.asarray(model(images, training=False))
    assert ours.std() > 0.01
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())
