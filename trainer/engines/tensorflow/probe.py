"""What the devices of a strategy can do at best, beside which a step is measured."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from convoy.trainer.engines.runtime import Runtime


def products(runtime: Runtime, side: int, dtype: str) -> Callable[[int], None]:
    """A function that multiplies two matrices [side, side] so many times on every device of this process, and waits."""
    strategy = runtime.strategy_or_mesh

    @tf.function(autograph=False)
    def multiply(count: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        def on_device(count: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            # Of an argument, so that no pass over the graph computes the product. It stays what it is: side * 1 / side.
            matrix = tf.fill([side, side], tf.cast(number, dtype))
            product = tf.ones([side, side], dtype)
            _, product = tf.while_loop(
                lambda index, _: index < count,
                lambda index, product: (index + 1, tf.matmul(matrix, product)),
                (tf.constant(0), product),
                parallel_iterations=1,
            )
            return tf.cast(product[0, 0], tf.float64)

        return strategy.experimental_local_results(strategy.run(on_device, (count, number)))

    def multiply_and_wait(count: int) -> None:
        for number in multiply(tf.constant(count), tf.constant(1 / side, tf.float64)):
            number.numpy()

    return multiply_and_wait


def copies(megabytes: int) -> Callable[[int], None]:
    """A function that reads an array of so many MB and writes another, so many times, and waits."""
    array = tf.ones([megabytes * 250_000])

    @tf.function(autograph=False)
    def copy(count: tf.Tensor, array: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor, array: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, tf.negative(array)

        return tf.while_loop(lambda index, _: index < count, body, (tf.constant(0), array), parallel_iterations=1)[1][0]

    return lambda count: copy(tf.constant(count), array).numpy()
