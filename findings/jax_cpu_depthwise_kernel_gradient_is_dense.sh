#!/usr/bin/env bash
# On the CPU backend, JAX computes the gradient of a depthwise convolution's kernel as that of a dense one, each channel of the
# images with each of the outputs, and then keeps the diagonal: with C channels, C times the operations that it takes.
#
# Seen with jax 0.10.2, Python 3.11, x86-64, 8 x 28 x 28 images, kernel 3 x 3: 64 channels 441 MFLOP, where the forward pass has
# 6.9; 256 channels 7052 MFLOP, where it has 27.5. The convolution in the optimized HLO makes f32[C,3,3,C], of which the
# kernel's gradient has 9 * C numbers.
# Why: JAX hands XLA a convolution with batch_group_count = C (jax/_src/lax/convolution.py, _conv_general_dilated_transpose_rhs).
# XLA's CPU compiler has no such convolution and expands it (xla/hlo/transforms/simplifiers/convolution_group_converter.cc).
# Control: the same gradient, equal bit for bit, as sums of products of shifted images takes about as many operations as the
# forward pass; and before it is compiled, the gradient has batch_group_count = C.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2
JAX_PLATFORMS=cpu "$place/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np


def depthwise(kernel, images):
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=names, feature_group_count=images.shape[-1]
    )


def loss(kernel, images, targets):
    return (depthwise(kernel, images) * targets).sum()


def shifted(kernel, images, targets):
    """The gradient of `loss` for the kernel."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(padded[:, y : y + height, x : x + width] * targets).sum((0, 1, 2)) for y in range(3) for x in range(3)]
    return jnp.stack(taps).reshape(kernel.shape)


random = np.random.default_rng(0)
for channels in (64, 256):
    shapes = (3, 3, 1, channels), (8, 28, 28, channels), (8, 28, 28, channels)
    arguments = [random.integers(-2, 3, shape).astype(np.float32) for shape in shapes]  # whose sums are exact
    lowered = jax.jit(jax.grad(loss)).lower(*arguments)
    dense, forward = lowered.compile(), jax.jit(depthwise).lower(*arguments[:2]).compile()
    by_shifts = jax.jit(shifted).lower(*arguments).compile()
    flops = [program.cost_analysis()["flops"] for program in (forward, dense, by_shifts)]
    print(f"JAX {jax.__version__}, {channels} channels: {flops[0] / 1e6:.1f} MFLOP forward, the kernel's gradient"
          f" {flops[1] / 1e6:.1f}, by shifted images {flops[2] / 1e6:.1f}")
    assert f"batch_group_count = {channels}" in lowered.as_text()
    assert f"f32[{channels},3,3,{channels}]" in dense.as_text(), "a whole kernel of all pairs of channels"
    assert flops[1] > 0.9 * channels * flops[0]
    assert flops[2] < 1.5 * flops[0], "control"
    assert np.array_equal(dense(*arguments), by_shifts(*arguments)), "control"
PYTHON
