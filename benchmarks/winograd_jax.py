"""Winograd's convolutions of --kernels=3 on JAX's CPU beside those of --kernels=2: `python benchmarks/winograd_jax.py`.

Layers of 3x3 windows with as many outputs as channels, forward, and with both gradients. The ways take turns; the median
counts.
`error` is the root mean square of the difference to --kernels=2, of its own, the largest of outputs and gradients.
Writes results/winograd_jax.csv.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from rows import HERE, describe, write

from convoy.trainer.engines import allocator

allocator.keep_freed_memory(one_heap=True)  # before a thread has memory

import jax  # noqa: E402
import numpy as np  # noqa: E402

from convoy.trainer.engines.jax import convolutions, winograd  # noqa: E402

# Images, their side, channels: of resnet18 for 32 pixels, of resnet50 for 224, then smaller ones near the rule's bounds.
LAYERS = [
    (128, 32, 64), (128, 16, 128), (128, 8, 256), (128, 4, 512), (32, 56, 64), (32, 28, 128), (32, 14, 256), (32, 7, 512),
    (128, 32, 32), (128, 6, 512), (128, 5, 256), (4, 7, 512), (1, 7, 512),
]  # fmt: skip
PADDING = ((1, 1), (1, 1))
WAYS = {
    "2": lambda images, kernel: convolutions.convolution((1, 1), PADDING, images, kernel),
    "3": lambda images, kernel: winograd.convolution(PADDING, images, kernel),
}


def both(way: Callable[..., jax.Array]) -> Callable[..., list[jax.Array]]:
    def compute(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> list[jax.Array]:
        outputs, back = jax.vjp(way, images, kernel)
        return [outputs, *back(gradient)]

    return compute


def milliseconds(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            begun = time.perf_counter()
            jax.block_until_ready(function())
            if number:  # the first one warms up
                taken[name].append(1000 * (time.perf_counter() - begun))
    return {name: round(statistics.median(own), 1) for name, own in taken.items()}


def measure(count: int, side: int, channels: int, rounds: int) -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    images, gradient = (jax.numpy.asarray(random.normal(size=(count, side, side, channels)), "float32") for _ in "ab")
    kernel = jax.numpy.asarray(random.normal(size=(3, 3, channels, channels)), "float32")
    forward = {name: jax.jit(way).lower(images, kernel).compile() for name, way in WAYS.items()}
    all_of = {name: jax.jit(both(way)).lower(images, kernel, gradient).compile() for name, way in WAYS.items()}
    values = {name: all_of[name](images, kernel, gradient) for name in WAYS}
    errors = [
        float(np.sqrt(np.mean(np.square(new - old)) / np.mean(np.square(old))))
        for old, new in zip(*values.values(), strict=True)
    ]
    one_way = milliseconds({name: lambda f=f: f(images, kernel) for name, f in forward.items()}, rounds)
    two_ways = milliseconds({name: lambda f=f: f(images, kernel, gradient) for name, f in all_of.items()}, rounds)
    shape = {"images": count, "side": side, "channels": channels}
    applies = winograd.applies((1, 1), PADDING, images, kernel)
    return [
        {
            **describe(), **shape, "kernels": name, "rounds": rounds, "forward_ms": one_way[name],
            "with_gradients_ms": two_ways[name], "error": f"{max(errors):.1e}" if name == "3" else "", "rule": int(applies),
        }
        for name in WAYS
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    flags = parser.parse_args()
    rows = []
    for layer in LAYERS:
        rows += measure(*layer, flags.rounds)
        print(rows[-2:], flush=True)
    write(HERE / "results" / "winograd_jax.csv", rows)


if __name__ == "__main__":
    main()
