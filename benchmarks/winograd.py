"""Winograd's convolutions of --kernels=3 beside those of --kernels=2, a layer at a time: `python benchmarks/winograd.py`.

Layers of 3x3 windows with as many outputs as channels, forward, and with both gradients, on this machine's cores. The ways
take turns; the median counts. `rule` says whether --kernels=3 has Winograd's there. `error` is the root mean square of the
difference to the convolution in float64 of the same numbers, over its own, the largest of outputs and both gradients. Each
engine has a process of its own. Writes results/winograd.csv.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rows import HERE, describe, write

sys.path.append(str(HERE.parent / "tests"))
from exact_convolution import exact


class Layer(NamedTuple):
    images: int
    side: int
    channels: int


LAYERS = [
    *(Layer(128, 32, 64), Layer(128, 16, 128), Layer(128, 8, 256), Layer(128, 4, 512)),  # resnet18 for 32 pixels
    *(Layer(32, 56, 64), Layer(32, 28, 128), Layer(32, 14, 256), Layer(32, 7, 512)),  # resnet50 for 224
    *(Layer(128, 6, 512), Layer(128, 5, 256), Layer(4, 7, 512), Layer(1, 7, 512)),  # about the rules' bounds
]
PADDING = ((1, 1), (1, 1))
Arrays = Sequence[np.ndarray]


def on_tensorflow(precision: str, given: Arrays) -> tuple[dict[str, list[Callable[[], Any]]], bool]:
    """Ways -> [forward, with gradients], and what the rule says."""
    import tensorflow as tf

    from convoy.trainer.engines.tensorflow import convolutions, winograd

    images, kernel, of_outputs = (tf.cast(array, precision) for array in given)
    sizes = tuple(images.shape[1:3])

    def older(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        products = convolutions.by_products(images, kernel, (1, 1), "SAME", generation=2)
        return convolutions.convolution(images, kernel, (1, 1), "SAME", products)

    def newer(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return winograd.convolution(images, kernel, sizes)

    def functions(way: Callable[..., tf.Tensor]) -> list[Callable[[], Any]]:
        def with_gradients(images: tf.Tensor, kernel: tf.Tensor, of_outputs: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch([images, kernel])
                outputs = way(images, kernel)
            return [outputs, *tape.gradient(outputs, [images, kernel], of_outputs)]

        forward, both = tf.function(way, autograph=False), tf.function(with_gradients, autograph=False)
        return [lambda: [forward(images, kernel)], lambda: both(images, kernel, of_outputs)]

    ways = {"2": functions(older), "3": functions(newer)}
    return ways, winograd.applies(images, kernel, (1, 1), sizes)


def on_jax(precision: str, given: Arrays) -> tuple[dict[str, list[Callable[[], Any]]], bool]:
    """The same."""
    import jax

    from convoy.trainer.engines.jax import convolutions, winograd

    images, kernel, of_outputs = (jax.numpy.asarray(array, precision) for array in given)

    def functions(way: Callable[..., jax.Array]) -> list[Callable[[], Any]]:
        def with_gradients(images: jax.Array, kernel: jax.Array, of_outputs: jax.Array) -> list[jax.Array]:
            outputs, back = jax.vjp(way, images, kernel)
            return [outputs, *back(of_outputs)]

        forward, both = jax.jit(way), jax.jit(with_gradients)
        return [
            lambda: jax.block_until_ready([forward(images, kernel)]),
            lambda: jax.block_until_ready(both(images, kernel, of_outputs)),
        ]

    ways = {
        "2": functions(lambda *both: convolutions.convolution((1, 1), PADDING, *both)),
        "3": functions(lambda *both: winograd.convolution(PADDING, *both)),
    }
    return ways, winograd.applies((1, 1), PADDING, images, kernel)


ENGINES = {"tensorflow": (on_tensorflow, ("float32", "bfloat16")), "jax": (on_jax, ("float32",))}


def error(found: Arrays, right: Arrays) -> str:
    pairs = [(np.asarray(value).astype(np.float64), true) for value, true in zip(found, right, strict=True)]
    return f"{max(np.sqrt(np.mean((value - true) ** 2) / np.mean(true**2)) for value, true in pairs):.1e}"


def milliseconds(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            begun = time.perf_counter()
            np.asarray(function()[-1])
            if number > 1:  # the first ones warm up
                taken[name].append(1000 * (time.perf_counter() - begun))
    return {name: round(statistics.median(own), 1) for name, own in taken.items()}


def measure(engine: str, rounds: int) -> list[dict[str, Any]]:
    from convoy.trainer import engines

    engines.choose(engine)
    ways_of, precisions = ENGINES[engine]
    rows = []
    for precision in precisions:
        for layer in LAYERS:
            random, shape = np.random.default_rng(0), (layer.images, layer.side, layer.side, layer.channels)
            given = [random.normal(size=size) for size in (shape, (3, 3, layer.channels, layer.channels), shape)]
            ways, rule = ways_of(precision, given)
            right = exact(PADDING, *(_rounded(array, precision) for array in given))
            errors = {name: error(both(), right) for name, (_, both) in ways.items()}
            forward, both = (milliseconds({name: own[i] for name, own in ways.items()}, rounds) for i in (0, 1))
            measured = {**describe(), "backend": engine, "precision": precision, **layer._asdict(), "rounds": rounds}
            for name in ways:
                times = {"forward_ms": forward[name], "with_gradients_ms": both[name]}
                rows.append(measured | {"kernels": name, **times, "error": errors[name], "rule": int(rule)})
    return rows


def _rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """In float64, which is exact for what it is rounded to."""
    import ml_dtypes

    return array.astype(ml_dtypes.bfloat16 if precision == "bfloat16" else np.float32).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--engine", choices=ENGINES, help="measure one, and print its rows as JSON")
    flags = parser.parse_args()
    if flags.engine:
        print(json.dumps(measure(flags.engine, flags.rounds)))
        return
    rows = []
    for engine in ENGINES:
        command = [sys.executable, __file__, f"--rounds={flags.rounds}", f"--engine={engine}"]
        rows += json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    write(HERE / "results" / "winograd.csv", rows)


if __name__ == "__main__":
    main()
