"""Every change that Convoy makes to Keras or TensorFlow from outside.

Each first looks whether its target still is what Convoy knows, and refuses with a sentence if not: a library's new version
would go on in silence with other numbers. tests/engines/test_patches.py has a case for each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import dtypes
from keras.src.random import seed_generator
from tensorflow.python.data.ops import multi_device_iterator_ops

from convoy import exits
from convoy.data.arrays import Array
from convoy.trainer.engines import first_weights as weights
from convoy.trainer.engines import initializers

_NORMAL = ("shape", "mean", "stddev", "dtype", "seed")


@contextlib.contextmanager
def first_weights(seed: int) -> Iterator[list[str]]:
    """Within, variables get first values that are a function of (seed, path), and random layers get seeds that follow `seed`.

    Yields the paths of variables whose first value is not, because a user's initializer draws from a source of its own.
    """
    unrepeatable: list[str] = []
    with contextlib.ExitStack() as stack:
        replace = functools.partial(_replace, stack)
        replace(
            backend.Variable,
            "_initialize_with_initializer",
            ("self", "initializer"),
            lambda original: initializers.initialize(original, seed, unrepeatable),
        )
        for name, draw, parameters in (
            ("normal", weights.normal, _NORMAL),
            ("truncated_normal", weights.truncated_normal, _NORMAL),
            ("uniform", weights.uniform, ("shape", "minval", "maxval", "dtype", "seed")),
            ("randint", weights.randint, ("shape", "minval", "maxval", "dtype", "seed")),
        ):
            replace(backend.random, name, parameters, functools.partial(initializers.distribution, draw=draw))
        for name in ("beta", "binomial", "categorical", "dropout", "gamma", "shuffle"):
            replace(backend.random, name, None, initializers.reseeded)
        replace(keras.initializers.Orthogonal, "__call__", ("self", "shape", "dtype"), initializers.orthogonal)
        # Keras makes up seeds with Python's global generator, from which retries in other threads draw, too.
        replace(seed_generator, "python_random", None, lambda _: random.Random(seed % 2**32))  # noqa: S311
        yield unrepeatable


def compute_in_float64(allowed: bool) -> None:
    """Has Keras on JAX compute in float64 where variables are float64, or not again.

    Left alone, Keras takes float64 for float32 in all its arithmetic on JAX; this table is where it says so.
    """
    table = _expected(keras, dtypes, "BIT64_TO_BIT32_DTYPE")
    table["float64"] = "float64" if allowed else "float32"


def replace_moments(
    layer: keras.layers.BatchNormalization, moments: Callable[[Array, Array | None], tuple[Array, Array]]
) -> None:
    """Replaces how one layer measures its inputs: (inputs [..., channels], mask) -> mean and variance, each [channels]."""
    _expected(keras, keras.layers.BatchNormalization, "_moments", ("self", "inputs", "mask"))
    layer._moments = moments


def replace_normalization(layer: keras.layers.BatchNormalization, call: Callable[..., Array]) -> None:
    """Replaces all that one layer does in training and in evaluation."""
    _expected(keras, keras.layers.BatchNormalization, "call", ("self", "inputs", "training", "mask"))
    layer.call = call


def replace_pooling(layer: keras.layers.MaxPooling2D, pool: Callable[[Array], Array]) -> None:
    """Replaces how one layer pools its inputs."""
    _expected(keras, keras.layers.MaxPooling2D, "call", ("self", "inputs"))
    layer.call = pool


def replace_convolution(layer: keras.layers.Conv2D, convolution: Callable[[Array, Array], Array]) -> None:
    """Replaces how one layer convolves its inputs with its kernel; bias and activation stay Keras'."""
    _expected(keras, keras.layers.Conv2D, "convolution_op", ("self", "inputs", "kernel"))
    layer.convolution_op = convolution


def apply_gradients_as_they_are(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps Keras' optimizer from summing gradients over replicas inside `apply`: one collective per variable, after clipping.

    Convoy's step has summed them before, in one collective.
    """
    _expected(keras, keras.optimizers.Optimizer, "_all_reduce_sum_gradients", ("self", "grads_and_vars"))
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def assign_without_aggregation(variable: keras.Variable) -> None:
    """Lets every replica assign a value of its own to a variable.

    Else tf.distribute would aggregate at each assignment, and a loop over microbatches cannot hold that collective.
    """
    _expected(tf, variable.value, "_aggregation")
    variable.value._aggregation = tf.VariableAggregation.NONE


def shift_seeds(generator: keras.random.SeedGenerator, shift: Callable[[Array], Array]) -> None:
    """Has a generator give `shift(seed)` in place of every seed; its state goes on as ever."""
    _expected(keras, keras.random.SeedGenerator, "next", ("self", "ordered"))
    draw = generator.next
    generator.next = lambda ordered=True: shift(draw(ordered))


@contextlib.contextmanager
def observed_updates(observe: Callable[[keras.Variable], None]) -> Iterator[None]:
    """Within, calls `observe(variable)` for every assignment in a stateless call of a model."""
    add_update = _expected(keras, keras.StatelessScope, "add_update", ("self", "update"))

    def observed(scope: keras.StatelessScope, update: tuple[keras.Variable, Array]) -> None:
        observe(update[0])
        add_update(scope, update)

    keras.StatelessScope.add_update = observed
    try:
        yield
    finally:
        keras.StatelessScope.add_update = add_update


@contextlib.contextmanager
def device_datasets(change: Callable[[tf.data.Dataset], tf.data.Dataset]) -> Iterator[None]:
    """Within, applies `change` to the data sets that iterators over several devices make on the devices' side.

    No option reaches those, so autotuning could not be turned off there (convoy.data.parallel says why it is).
    """
    parameters = ("prototype_ds", "incarnation_id", "prefetch_buffer_size", "experimental_slack")
    create = _expected(tf, multi_device_iterator_ops, "_create_device_dataset", parameters)
    multi_device_iterator_ops._create_device_dataset = lambda *values: change(create(*values))
    try:
        yield
    finally:
        multi_device_iterator_ops._create_device_dataset = create


def _expected(library: ModuleType, owner: object, name: str, parameters: Sequence[str] | None = None) -> Any:
    """`owner.name`, which must exist, and take these parameters if they are given."""
    target = getattr(owner, name, None)
    described = f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
    if target is None:
        _refuse(library, described)
    if parameters is not None and tuple(inspect.signature(target).parameters) != tuple(parameters):
        _refuse(library, f"{described}({', '.join(parameters)})")
    return target


def _replace(
    stack: contextlib.ExitStack,
    owner: object,
    name: str,
    parameters: Sequence[str] | None,
    wrap: Callable[[Any], Any],
) -> None:
    """Puts `wrap` of Keras' `owner.name` in its place until `stack` closes."""
    original = _expected(keras, owner, name, parameters)
    setattr(owner, name, wrap(original))
    stack.callback(setattr, owner, name, original)


def _refuse(library: ModuleType, target: str) -> NoReturn:
    name = "Keras" if library is keras else "TensorFlow"
    raise exits.CannotRun(
        f"Convoy changes {target} of {name}, which {name} {library.__version__} does not have in that form; install a version"
        " that Convoy was tested with (requirements.lock), or a newer Convoy."
    )
