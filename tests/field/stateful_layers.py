"""KINDS: layers that keep state in right and in wrong ways, by name. Import it after an engine is chosen."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

TENSORFLOW = keras.backend.backend() == "tensorflow"


class Moving(layers.Layer):
    """Subtracts a moving mean."""

    def __init__(self, aggregation: str = "none", always: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.aggregation, self.always = aggregation, always

    def build(self, shape: Any) -> None:
        self.moving = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, aggregation=self.aggregation, name="moving"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training or self.always:
            self.moving.assign(0.9 * self.moving + 0.1 * ops.mean(x, 0))
        return x - self.moving


class Before(Moving):
    """Subtracts the mean before this batch, which is the same on every replica."""

    def call(self, x: Any, training: bool = False) -> Any:
        y = x - self.moving
        super().call(x, training)
        return y


class Late(Moving):
    """Subtracts a mean from the sixth call on."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="calls")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign(self.calls + 1)
            self.moving.assign(ops.where(self.calls > 5, ops.mean(x, 0), self.moving.value))
        return x - self.moving


class Counter(layers.Layer):
    """Counts steps, or bright pixels of the batch, as an integer, a float or a boolean."""

    def __init__(self, dtype_of: str, of_batch: bool, aggregation: str = "none", **kwargs: Any):
        super().__init__(**kwargs)
        self.dtype_of, self.of_batch, self.aggregation = dtype_of, of_batch, aggregation

    def build(self, shape: Any) -> None:
        self.state = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype=self.dtype_of,
            aggregation=self.aggregation,
            name="state",
        )

    def call(self, x: Any, training: bool = False) -> Any:
        bright = ops.sum(ops.cast(x[:, 0] > 0.5, "int32")) if self.of_batch else 1
        if training:
            if self.dtype_of == "bool":
                self.state.assign(ops.logical_xor(self.state, ops.equal(bright % 2, 1)))
            else:
                self.state.assign(self.state + ops.cast(bright, self.dtype_of))
        return x * (1 + 1e-3 * ops.cast(self.state, x.dtype))


class Noise(layers.Layer):
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(5)

    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(x.shape, stddev=0.1, seed=self.generator, dtype=x.dtype) if training else x


class Moody(Noise):
    """Moves its generator by a number that depends on the batch."""

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        own = self.generator.state
        own.assign(own + ops.cast(ops.stack([0 * x[0, 0], ops.floor(x[0, 0] * 100)]), own.dtype))
        return super().call(x, training)


class Unseeded(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(x.shape, stddev=0.1, dtype=x.dtype) if training else x


class Counting(layers.Layer):
    """Counts in Python."""

    count = 0

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.count += 1
        return x * (1 + 1e-3 * self.count)


class Keeping(layers.Layer):
    """Keeps a moving mean in an attribute of Python."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.kept = np.zeros((), np.float32)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.kept = 0.9 * self.kept + 0.1 * ops.mean(x)
        return x - self.kept


class Noting(layers.Layer):
    """Stores its input in attributes and never reads them."""

    def call(self, x: Any) -> Any:
        self.batch, self.last = x.shape[0], x
        return x


class Measuring(layers.Layer):
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.metric = keras.metrics.Mean(name="seen")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.metric.update_state(ops.mean(x))
        return x - 0.1 * self.metric.result()


class Lazy(layers.Layer):
    """Makes its variable in call."""

    def __init__(self, only_training: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.only_training, self.own = only_training, None

    def call(self, x: Any, training: bool = False) -> Any:
        if self.own is None and (training or not self.only_training):
            self.own = self.add_weight(shape=(), initializer="zeros", trainable=False, name="own")
        if training and self.own is not None:
            self.own.assign(self.own + 1)
        return x if self.own is None else x * (1 + 1e-3 * self.own)


class Writing(layers.Dense):
    """Bounds its kernel in call."""

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.kernel.assign(ops.clip(self.kernel, -0.3, 0.3))
        return super().call(x)


class Users(layers.BatchNormalization):
    """A user's subclass without changes."""


class Shared(layers.Layer):
    """Keeps a variable outside any layer."""

    outside: Any = None

    def build(self, shape: Any) -> None:
        type(self).outside = keras.Variable(0.0, trainable=False, name="outside")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.outside.assign(self.outside + 1)
        return x * (1 + 1e-3 * self.outside)


class Always(layers.Dropout):
    """Draws in evaluation too."""

    def call(self, x: Any, training: bool = False) -> Any:
        return super().call(x, training=True)


def nested(**options: Any) -> Any:
    return lambda: keras.Sequential(
        [layers.Dense(6), Moving(**options), keras.Sequential([layers.Dropout(0.2, seed=1)])]
    )


def adapted() -> Any:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).random((53, 16)))
    return layer


SAME, REFUSED, APART = "same", "refused", "refused on several devices"
KINDS: dict[str, tuple[Any, str]] = {
    "moving": (Moving, APART),
    "moving/mean": (lambda: Moving("mean"), SAME),
    "moving/first": (lambda: Moving("only_first_replica"), SAME),
    "before/mean": (lambda: Before("mean"), SAME),
    "moving/sum": (lambda: Moving("sum"), SAME),
    "always/mean": (lambda: Moving("mean", always=True), SAME),
    "late": (Late, APART),
    "late/mean": (lambda: Late("mean"), SAME),
    "count": (lambda: Counter("int32", False), SAME),
    "count of batch": (lambda: Counter("int32", True), APART),
    "count of batch/sum": (lambda: Counter("int32", True, "sum"), SAME),
    "count of batch/mean": (lambda: Counter("int32", True, "mean"), APART),
    "float count/sum": (lambda: Counter("float32", True, "sum"), SAME),
    "truth": (lambda: Counter("bool", False), SAME),
    "truth of batch": (lambda: Counter("bool", True), APART),
    "truth of batch/first": (lambda: Counter("bool", True, "only_first_replica"), SAME),
    "noise": (Noise, SAME),
    "moody": (Moody, APART),
    "unseeded": (Unseeded, REFUSED),
    "stock dropout": (lambda: layers.Dropout(0.3), SAME),
    "stock noise": (lambda: layers.GaussianNoise(0.1), SAME),
    "drawing in evaluation": (lambda: Always(0.3), SAME),
    "counting in Python": (Counting, REFUSED),
    "keeping in Python": (Keeping, REFUSED),
    "noting in Python": (Noting, SAME),
    "metric": (Measuring, REFUSED),
    "lazy": (lambda: Lazy(False), REFUSED),
    "lazy in training": (lambda: Lazy(True), REFUSED),
    "outside": (Shared, REFUSED),
    "writing a weight": (lambda: Writing(6), SAME if TENSORFLOW else REFUSED),
    "spectral": (
        lambda: layers.SpectralNormalization(layers.Dense(6)), SAME if TENSORFLOW else REFUSED
    ),
    "batchnorm": (layers.BatchNormalization, SAME),
    "batchnorm of the user": (Users, SAME),
    "adapted": (adapted, SAME),
    "nested": (nested(), APART),
    "nested/mean": (nested(aggregation="mean"), SAME),
}  # fmt: skip
if TENSORFLOW:
    import tensorflow as tf

    class Raw(layers.Layer):
        """Keeps a tf.Variable instead of one of Keras."""

        def build(self, shape: Any) -> None:
            self.raw, self.one = tf.Variable(0.0, trainable=False), tf.Variable(1.0, trainable=False)

        def call(self, x: Any, training: bool = False) -> Any:
            if training:
                self.raw.assign(0.9 * self.raw + 0.1 * tf.reduce_mean(x))
            return x - self.raw * self.one

    class Constant(layers.Layer):
        def build(self, shape: Any) -> None:
            self.one = tf.Variable(2.0, trainable=False)

        def call(self, x: Any) -> Any:
            return x * self.one

    class Drawing(layers.Layer):
        def call(self, x: Any, training: bool = False) -> Any:
            return x + tf.random.normal(x.shape, stddev=0.1, dtype=x.dtype) if training else x

    class Generating(layers.Layer):
        def build(self, shape: Any) -> None:
            self.generator = tf.random.Generator.from_seed(3)

        def call(self, x: Any, training: bool = False) -> Any:
            return x + self.generator.normal(x.shape, stddev=0.1, dtype=x.dtype) if training else x

    KINDS |= {
        "raw": (Raw, REFUSED),
        "raw, but constant": (Constant, SAME),
        "tf.random": (Drawing, REFUSED),
        "tf generator": (Generating, REFUSED),
    }
