"""Every change that Convoy makes to Keras or TensorFlow from outside.

Each first looks whether its target still is what Convoy knows, and refuses with a sentence if not: a library's new version
would go on in silence with other numbers. tests/engines/test_patches.py has a case for each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import dtypes
from keras.src.models import functional as functional_models
from keras.src.ops.node import Node as KerasNode
from keras.src.ops.operation import Operation
from keras.src.random import seed_generator
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.util import _pywrap_util_port

from convoy import exits
from convoy.data.arrays import Array, Scalar
from convoy.trainer.engines import first_weights as weights
from convoy.trainer.engines import initializers

Node: TypeAlias = KerasNode
OperationCall = Callable[
    [Operation], Callable[..., Array]
]  # an operation of a model's graph -> the function that calls it

_NORMAL = ("shape", "mean", "stddev", "dtype", "seed")
_drawn_through: set[Callable[[Any], Any]] = set()


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


@contextlib.contextmanager
def relu_by(relu: Callable[[Array], Array]) -> Iterator[None]:
    """Within, layers and keras.ops compute ReLU by a function of one array."""
    with contextlib.ExitStack() as stack:
        _replace(stack, backend.nn, "relu", ("x",), lambda _: relu)
        yield


def compute_in_float64(allowed: bool) -> None:
    """Has Keras on JAX compute in float64 where variables are float64, or not again.

    Left alone, Keras takes float64 for float32 in all its arithmetic on JAX; this table is where it says so.
    """
    table = _expected(keras, dtypes, "BIT64_TO_BIT32_DTYPE")
    table["float64"] = "float64" if allowed else "float32"


def computes_with_onednn() -> bool:
    """Whether TensorFlow computes with oneDNN in this process."""
    return bool(_expected(tf, _pywrap_util_port, "IsMklEnabled")())


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


def call_as_in_evaluation(layer: keras.layers.Layer, when: Callable[[], bool]) -> None:
    """Has one layer do what it does in evaluation, also when it is called in training, where `when()` is true."""
    _expected(keras, keras.layers.Layer, "call")
    call = layer.call

    def call_or_evaluate(*inputs: Array, **options: object) -> Array:
        if when():
            options["training"] = False
        return call(*inputs, **options)

    layer.call = call_or_evaluate


def functional(model: keras.Model) -> keras.Model | None:
    """The model whose graph of layers a model has; None for one that is Python code."""
    if isinstance(model, keras.Sequential):
        model = _expected(keras, model, "_functional")
    return model if isinstance(model, functional_models.Functional) else None


def nodes_of(model: keras.Model) -> list[Node]:
    """The calls of operations in a functional model's graph, in the order in which Keras makes them."""
    by_depth = _expected(keras, model, "_nodes_by_depth")
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if node.operation and not node.is_input]


def run_in_training(model: keras.Model, run: Callable[[OperationCall, Array], Array]) -> None:
    """Replaces how a functional model of one input and one output runs through its graph in training."""
    call = _expected(keras, model, "call", ("inputs", "training", "mask", "kwargs"))
    standardize = _expected(keras, model, "_standardize_inputs", ("inputs",))
    call_operation = _expected(keras, functional_models, "operation_fn", ("operation", "call_context_args"))

    def call_or_run(inputs: Array, training: bool | None = None, mask: Array | None = None, **options: object) -> Array:
        if not training or mask is not None:
            return call(inputs, training=training, mask=mask, **options)
        (tensor,) = standardize(inputs)
        return run(functools.partial(call_operation, training=True, **options), tensor)

    model.call = call_or_run


def uncast() -> contextlib.AbstractContextManager[None]:
    """Within, the value of a variable has the variable's own type, whatever the layer that is called computes in."""
    return _expected(keras, backend, "AutocastScope", ("dtype",))(None)


def replace_pooling(layer: keras.layers.MaxPooling2D, pool: Callable[[Array], Array]) -> None:
    """Replaces how one layer pools its inputs."""
    _expected(keras, keras.layers.MaxPooling2D, "call", ("self", "inputs"))
    layer.call = pool


def replace_convolution(layer: keras.layers.Conv2D, convolution: Callable[[Array, Array], Array]) -> None:
    """Replaces how one layer convolves its inputs with its kernel; bias and activation stay Keras'."""
    _expected(keras, keras.layers.Conv2D, "convolution_op", ("self", "inputs", "kernel"))
    layer.convolution_op = convolution


def replace_depthwise(layer: keras.layers.DepthwiseConv2D, call: Callable[[Array], Array]) -> None:
    """Replaces all that one layer does with its inputs."""
    _expected(keras, keras.layers.DepthwiseConv2D, "call", ("self", "inputs"))
    layer.call = call


def replace_separable(layer: keras.layers.SeparableConv2D, call: Callable[[Array], Array]) -> None:
    """Replaces all that one layer does with its inputs."""
    _expected(keras, keras.layers.SeparableConv2D, "call", ("self", "inputs"))
    layer.call = call


def apply_gradients_as_they_are(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps Keras' optimizer from summing gradients over replicas inside `apply`: one collective per variable, after clipping.

    Convoy's step has summed them before, in one collective.
    """
    _expected(keras, keras.optimizers.Optimizer, "_all_reduce_sum_gradients", ("self", "grads_and_vars"))
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def replace_update(
    optimizer: keras.optimizers.Optimizer,
    update: Callable[[Callable[[Array, keras.Variable, Scalar], None], Array, keras.Variable, Scalar], None],
) -> None:
    """Replaces how one optimizer updates a variable: update(its own way, gradient, variable, learning rate).

    Its own way decays no weights any more: that is left to `update`.
    """
    _expected(keras, keras.optimizers.Optimizer, "_use_weight_decay", ("self", "variable"))
    _expected(keras, type(optimizer), "_apply_weight_decay", ("self", "variables"))
    step = _expected(keras, type(optimizer), "update_step", ("self", "gradient", "variable", "learning_rate"))
    optimizer._apply_weight_decay = lambda variables: None
    optimizer.update_step = functools.partial(update, functools.partial(step, optimizer))


def after_updates(optimizer: keras.optimizers.Optimizer, then: Callable[[Sequence[keras.Variable]], None]) -> None:
    """Calls `then(variables)` whenever one optimizer has updated variables, before it counts the step."""
    update = _expected(keras, optimizer, "_backend_apply_gradients", ("grads", "trainable_variables"))

    def update_and_then(gradients: Sequence[Array], variables: Sequence[keras.Variable]) -> None:
        update(gradients, variables)
        then(variables)

    optimizer._backend_apply_gradients = update_and_then


@contextlib.contextmanager
def counting_from(optimizer: keras.optimizers.Optimizer, first_step: int) -> Iterator[None]:
    """Within, an optimizer counts its steps from `first_step` on: bias corrections take that for step 0."""
    if not first_step:
        yield
        return
    count = _expected(keras, optimizer, "_iterations")
    # Not by setattr, which would have the optimizer keep what it takes for another variable.
    attributes = vars(optimizer)
    attributes["_iterations"] = count - first_step
    try:
        yield
    finally:
        attributes["_iterations"] = count


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


def draw_through(functions: Mapping[str, Callable[[Any], Any]]) -> None:
    """Puts functions in place of keras.random's for as long as the process lives: each is made of Keras' own, by name.

    Those that are in place stay. A function decides for each call whether Keras' own is to draw.
    """
    parameters = {
        "dropout": ("inputs", "rate", "noise_shape", "seed"),
        "normal": _NORMAL,
        "uniform": ("shape", "minval", "maxval", "dtype", "seed"),
    }
    for name, make in functions.items():
        original = _expected(keras, backend.random, name, parameters[name])
        if make not in _drawn_through:
            _drawn_through.add(make)
            setattr(backend.random, name, make(original))


def around_call(layer: keras.layers.Layer, begin: Callable[[], None]) -> None:
    """Calls `begin()` whenever one layer is called."""
    _expected(keras, keras.layers.Layer, "call")
    call = layer.call

    @functools.wraps(call)
    def begin_and_call(*inputs: Array, **options: object) -> Array:
        begin()
        return call(*inputs, **options)

    layer.call = begin_and_call


@contextlib.contextmanager
def observed_calls(
    model: keras.Model, observe: Callable[[Operation, tuple[Array, ...], Array], None]
) -> Iterator[None]:
    """Within, calls `observe(operation, inputs, outputs)` after every call of a layer of a model, in the layer's name scope,
    and of an operation in the graph of a functional one."""
    _expected(keras, Operation, "call", ("self", "args", "kwargs"))
    layers = list(model._flatten_layers())
    graphs = [graph for layer in layers if isinstance(layer, keras.Model) and (graph := functional(layer))]
    every = {id(operation): operation for operation in [*layers, *(o for graph in graphs for o in graph.operations)]}
    originals = [(operation, operation.call) for operation in every.values() if operation is not model]

    def observed(operation: Operation, call: Callable[..., Array]) -> Callable[..., Array]:
        @functools.wraps(call)
        def call_and_observe(*inputs: Array, **options: object) -> Array:
            outputs = call(*inputs, **options)
            observe(operation, inputs, outputs)
            return outputs

        return call_and_observe

    for operation, call in originals:
        operation.call = observed(operation, call)
    try:
        yield
    finally:
        for operation, call in originals:
            operation.call = call


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
