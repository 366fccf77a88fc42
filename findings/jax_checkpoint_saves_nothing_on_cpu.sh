#!/usr/bin/env bash
# Before jax 0.11.1, jax.checkpoint saves no memory on the CPU backend: the compiled gradient has the operations of one without
# it, and as large a temporary buffer, or a larger one. Python 3.11 gets no newer JAX than 0.10.2.
#
# Seen with jax 0.10.2 and 0.11.0 on x86-64: eight blocks of four tanh(x @ w), 4096 x 256: 132 MiB without, 160 MiB with
# jax.checkpoint, 51.1 GFLOP both; eight blocks of three convolutions: 400 MiB and 42.2 GFLOP both. With 0.11.1 and 0.12.0.1 the
# first takes 48 MiB and 68.3 GFLOP, as it should.
# Why: presumably XLA for CPUs drops the optimization barriers around a block before it removes common subexpressions, so what
# was to be computed again is merged with the first time.
# Source: https://docs.jax.dev/en/latest/gradient-checkpointing.html, prevent_cse; memory_analysis and cost_analysis of the compiled program.
# Control: before it is compiled, the program with jax.checkpoint has the operations of the blocks twice.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2
JAX_PLATFORMS=cpu "$place/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp


def dense(x, w):
    for _ in range(4):
        x = jnp.tanh(x @ w)
    return x


def convolutions(x, w):
    for _ in range(3):
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return x


CASES = {
    "dense": (dense, jnp.ones((8, 256, 256)), jnp.ones((4096, 256)), "dot_general"),
    "convolutions": (convolutions, jnp.ones((8, 3, 3, 16, 16)), jnp.ones((32, 64, 64, 16)), "stablehlo.convolution"),
}
for name, (block, weights, images, operation) in CASES.items():
    counts, memory, flops = {}, {}, {}
    for kind, call in (("plain", block), ("checkpoint", jax.checkpoint(block))):

        def loss(weights, x, call=call):
            for w in weights:
                x = call(x, w)
            return (x**2).sum()

        lowered = jax.jit(jax.grad(loss)).lower(list(weights), images)
        compiled = lowered.compile()
        counts[kind] = lowered.as_text().count(operation)
        memory[kind] = compiled.memory_analysis().temp_size_in_bytes
        flops[kind] = compiled.cost_analysis()["flops"]
        print(
            f"JAX {jax.__version__}, {name}, {kind}: {counts[kind]} operations before compiling;"
            f" compiled: {flops[kind] / 1e9:.1f} GFLOP, {memory[kind] / 2**20:.0f} MiB"
        )
    assert counts["checkpoint"] > counts["plain"], "control: the blocks are computed twice in what XLA is given"
    assert abs(flops["checkpoint"] / flops["plain"] - 1) < 0.02, "XLA computes them once"
    assert memory["checkpoint"] >= 0.98 * memory["plain"], "and keeps them"
PYTHON
