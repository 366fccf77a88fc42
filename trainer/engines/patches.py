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
import numpy as np
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import dtypes
from keras.src.random import seed_generator
from tensorflow.python.data.ops import multi_device_iterator_ops

from convoy import exits
from convoy.data.arrays import Array
from convoy.trainer.engines import first_weights as weights

_NORMAL = "(shape, mean=0.0, stddev=1.0, dtype=None, seed=None)"
_DISTRIBUTIONS = {
    "normal": (weights.normal, _NORMAL),
    "truncated_normal": (weights.truncated_normal, _NORMAL),
    "uniform": (weights.uniform, "(shape, minval=0.0, maxval=1.0, dtype=None, seed=None)"),
    "randint": (weights.randint, "(shape, minval, maxval, dtype='int32', seed=None)"),
}


@contextlib.contextmanager
def first_weights(seed: int) -> Iterator[list[str]]:
    """Within, a variable's first value is a function of (seed, path), and random layers get their seeds from `seed`.

    Yields the paths of variables whose first value is not, because a user's initializer draws from elsewhere.
    """
    unrepeatable: list[str] = []
    with contextlib.ExitStack() as stack:
        replace = functools.partial(_replace, stack)
        # Keras makes up seeds with Python's global generator. Retries in other threads draw from that, too.
        assert seed_generator.python_random is random, "Keras makes up seeds elsewhere now"
        replace(seed_generator, "python_random", lambda _: random.Random(seed % 2**32))  # noqa: S311
        initialize = functools.partial(_initialize, seed, unrepeatable)
        replace(backend.Variable, "_initialize_with_initializer", initialize, "(self, initializer)")
        replace(keras.initializers.Orthogonal, "__call__", _orthogonal, "(self, shape, dtype=None)")
        for name, (draw, signature) in _DISTRIBUTIONS.items():
            replace(backend.random, name, functools.partial(_distribution, draw), signature)
        for name in ("beta", "binomial", "categorical", "dropout", "gamma", "shuffle"):
            replace(backend.random, name, _reseeded)
        yield unrepeatable


def _initialize(seed: int, unrepeatable: list[str], original: Callable[..., None]) -> Callable[..., None]:
    """Variable._initialize_with_initializer that tells initializers which variable they draw for."""

    def initialize(variable: keras.Variable, initializer: Callable[..., Any]) -> None:
        @functools.wraps(initializer)
        def first_value(*arguments: Any, **options: Any) -> Any:
            def draw() -> Any:
                with weights.drawing(weights.Numbers(seed, variable.path)):
                    return initializer(*arguments, **options)

            value = draw()
            # Keras' own draw from keras.random alone. What a user's draws from elsewhere, a second call shows.
            if not initializer.__module__.startswith("keras.") and _bits(draw()) != _bits(value):
                unrepeatable.append(variable.path)
            return value

        original(variable, first_value)

    return initialize


def _distribution(draw: Callable[..., np.ndarray], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of keras.random that computes with `draw` while a variable gets its first value."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def random_tensor(*arguments: Any, **options: Any) -> Any:
        numbers = weights.current()
        if numbers is None:
            return original(*arguments, **options)
        call = signature.bind(*arguments, **options)
        call.apply_defaults()
        seed, dtype = call.arguments.pop("seed"), call.arguments.pop("dtype")
        return _tensor(draw(numbers.generator(seed), **call.arguments), dtype)

    return random_tensor


def _reseeded(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of keras.random that is given another seed while a variable gets its first value.

    The engine computes these few itself, so they are a function of (seed, path) on each, but not the same on both.
    """

    @functools.wraps(original)
    def random_tensor(*arguments: Any, **options: Any) -> Any:
        numbers = weights.current()
        if numbers is None:
            return original(*arguments, **options)
        call = inspect.signature(original).bind(*arguments, **options)
        call.arguments["seed"] = numbers.word(call.arguments.get("seed")) % 2**31
        return original(*call.args, **call.kwargs)

    return random_tensor


def _orthogonal(original: Callable[..., Any]) -> Callable[..., Any]:
    """Orthogonal.__call__ with NumPy's QR decomposition: the engines' differ in the last bits."""

    @functools.wraps(original)
    def orthogonal(initializer: Any, shape: Any, dtype: Any = None) -> Any:
        numbers = weights.current()
        if numbers is None or len(shape) < 2:
            return original(initializer, shape, dtype)
        return _tensor(weights.orthogonal(numbers.generator(initializer.seed), shape, initializer.gain), dtype)

    return orthogonal


def _tensor(values: np.ndarray, dtype: Any) -> Any:
    dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    return backend.convert_to_tensor(values.astype(dtype), dtype)


def _bits(tensor: Any) -> bytes:
    return backend.convert_to_numpy(tensor).tobytes()


def _replace(
    stack: contextlib.ExitStack, owner: Any, name: str, wrap: Callable[[Any], Any], signature: str | None = None
) -> None:
    """Puts `wrap` of an attribute in its place until `stack` closes."""
    original = getattr(owner, name)
    if signature:
        assert str(inspect.signature(original)) == signature, (
            f"{name} of Keras {keras.__version__} takes other arguments"
        )
    setattr(owner, name, wrap(original))
    stack.callback(setattr, owner, name, original)


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


def _refuse(library: ModuleType, target: str) -> NoReturn:
    name = "Keras" if library is keras else "TensorFlow"
    raise exits.CannotRun(
        f"Convoy changes {target} of {name}, which {name} {library.__version__} does not have in that form; install a version"
        " that Convoy was tested with (requirements.lock), or a newer Convoy."
    )
