"""Depthwise convolutions as JAX computes them on a CPU: XLA's numbers, without its grouped convolutions."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convoy.trainer.engines.jax.depthwise import depthwise

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def with_gradients(convolve, images, kernel, gradient):
    @jax.jit  # each operation by itself would be compiled by itself
    def compute(images, kernel, gradient):
        value, back = jax.vjp(convolve, images, kernel)
        return (value, *back(gradient.astype(value.dtype)))

    return compute(images, kernel, gradient)


def assert_xlas(size, kernel_size, strides, padding, multiplier=1, dtype=jnp.float32, rtol=1e-4, atol=1e-4) -> None:
    images, kernel = numbers(2, *size, 3), numbers(*kernel_size, 3, multiplier)
    pads = tuple(lax.padtype_to_pads(size, kernel_size, strides, padding))

    def xlas(images, kernel):
        grouped = kernel.reshape(*kernel_size, 1, 3 * multiplier)
        order = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            images, grouped, strides, padding, dimension_numbers=order, feature_group_count=3
        )

    gradient = numbers(*jax.eval_shape(xlas, images, kernel).shape)
    ours = with_gradients(
        lambda x, w: depthwise(strides, pads, x, w), jnp.asarray(images, dtype), jnp.asarray(kernel, dtype), gradient
    )
    for value, expected in zip(ours, with_gradients(xlas, images, kernel, gradient), strict=True):
        assert value.dtype == dtype
        np.testing.assert_allclose(value.astype(np.float32), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("kernel", "strides", "size", "padding"),
    [
        ((3, 3), (1, 1), (9, 8), "SAME"),
        ((3, 3), (2, 2), (9, 8), "SAME"),
        ((3, 3), (2, 2), (8, 9), "VALID"),
        ((5, 5), (1, 1), (7, 10), "VALID"),
        ((5, 5), (2, 2), (8, 9), "SAME"),
        ((5, 5), (3, 1), (9, 8), "VALID"),
        ((1, 7), (1, 1), (7, 10), "SAME"),
        ((1, 7), (3, 3), (8, 11), "SAME"),
    ],
)
def test_value_and_gradients_are_xlas(kernel, strides, size, padding):
    assert_xlas(size, kernel, strides, padding)


def test_a_depth_multiplier_repeats_the_channels_in_kerass_order():
    assert_xlas((6, 7), (3, 3), (2, 2), "SAME", multiplier=2)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_16_bits_are_summed_in_32(strides):
    assert_xlas((8, 9), (3, 3), strides, "SAME", dtype=jnp.bfloat16, rtol=2e-2, atol=6e-2)


PROGRAM = """
import dataclasses, json, re, sys, types
import numpy as np
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

runtime = choose("jax").prepare(RunConfig(backend="jax", model="users:small", devices="cpu:1", batch_size=4))
from keras import Input, Sequential, layers
from convoy.trainer.engines.jax import depthwise
from convoy.trainer.engines.jax.programs import Programs
from convoy.trainer.engines.runtime import set_up_keras

def small(shape, classes):
    return Sequential([
        Input(shape), layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same", bias_initializer="normal"),
        layers.SeparableConv2D(4, 3, activation="relu", bias_initializer="normal"), layers.DepthwiseConv2D(2, dilation_rate=2),
        layers.Flatten(), layers.Dense(classes)])

sys.modules["users"] = types.SimpleNamespace(small=small)

def programs(kernels):
    config = dataclasses.replace(runtime.config, kernels=kernels)
    set_up_keras(config)
    return Programs(dataclasses.replace(runtime, config=config), (12, 12, 3), np.full(10, 6))

images = np.random.default_rng(0).normal(size=(4, 12, 12, 3))
both = [programs(kernels) for kernels in ("1", "2")]
logits = [each.parts.model(images, training=False) for each in both]
texts = [each.lower().as_text() for each in both]
depthwise.install = None
print(json.dumps({
    "grouped": [len(re.findall(r"_group_count = (?!1 )\\d+", text)) for text in texts],
    "difference": float(np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max()),
    "old_is_same": programs("1").lower().as_text() == texts[0],
}))
"""


def test_newer_kernels_compute_the_layers_of_a_program_and_older_ones_leave_it_as_it_was():
    found = json.loads(
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    )
    # Each layer has a convolution and its two gradients, of which the first layer has one: its images need none.
    assert found["grouped"] == [2 + 3 + 3, 3], "what is left is the dilated layer"
    assert found["difference"] < 1e-5
    assert found["old_is_same"]
