"""Rematerialisation: a model keeps few activations in training, and computes the others again for the gradient.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4: the graph of a functional model is cut into
segments at tensors that all later ones are computed from. Forward, only the tensors between segments are kept. Backward, a
segment is computed again from its input, and differentiated at once. keras.RematScope does this for each layer by itself,
which keeps the output of every layer; it also loses what BatchNormalization assigns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import tree

from convoy import exits
from convoy.data.arrays import Array
from convoy.trainer.engines import patches
from convoy.trainer.engines.patches import Node, OperationCall

BUDGETS = 64  # of a segment's memory, tried to find the best


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """Operations that are computed from one tensor, in order, and give one tensor to the next segment."""

    nodes: Sequence[Node]
    first: int  # id of the tensor of the model's graph that it takes
    last: int  # id of the one that it gives

    @functools.cached_property
    def variables(self) -> list[keras.Variable]:
        layers = [node.operation for node in self.nodes if isinstance(node.operation, keras.layers.Layer)]
        return list({id(variable): variable for layer in layers for variable in layer.variables}.values())

    def run(self, operation_of: OperationCall, tensor: Array) -> Array:
        tensors = {self.first: tensor}
        for node in self.nodes:
            arguments, options = node.arguments.fill_in(tensors)
            outputs = operation_of(node.operation)(*arguments, **options)
            tensors |= {id(symbol): value for symbol, value in zip(node.outputs, tree.flatten(outputs), strict=True)}
        return tensors[self.last]


def install(model: keras.Model, name: str) -> None:
    """Has a model, or the "backbone" in it, recompute its activations whenever it is called in training.

    Raises:
      exits.CannotRun: the model is no graph of layers, or none that can be cut; `name` is its --model.
    """
    trunk = patches.functional(next((layer for layer in model.layers if layer.name == "backbone"), model))
    if trunk is None or len(trunk.inputs) != 1 or len(trunk.outputs) != 1:
        raise exits.CannotRun(
            f"--remat cuts the graph of a functional model of one input and one output, and --model={name} is none; leave it"
            " out, or give --accumulate, which needs less memory with any model."
        )
    segments = cut(trunk)
    if len(segments) < 2:
        raise exits.CannotRun(
            f"--remat would save nothing: the graph of --model={name} has no tensor that all later ones are computed from;"
            " leave it out, or give --accumulate."
        )
    patches.run_in_training(trunk, functools.partial(_run, name, segments))


def cut(trunk: keras.Model) -> list[Segment]:
    """The segments of a functional model's graph whose memory, as estimated from shapes, is least at its peak."""
    nodes = patches.nodes_of(trunk)
    blocks = _blocks(nodes, trunk.inputs[0], trunk.outputs[0])
    sizes = [sum(_bytes(tensor) for node in block.nodes for tensor in node.outputs) for block in blocks]
    kept = [_bytes(next(t for node in block.nodes for t in node.outputs if id(t) == block.last)) for block in blocks]
    budgets = np.geomspace(max(sizes), sum(sizes), BUDGETS)
    return min((_grouped(blocks, sizes, kept, budget) for budget in budgets), key=lambda grouping: grouping[0])[1]


def _blocks(nodes: Sequence[Node], taken: keras.KerasTensor, given: keras.KerasTensor) -> list[Segment]:
    """The graph cut wherever one tensor alone is needed later."""
    last_use = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.input_tensors}
    last_use[id(given)] = len(nodes)
    blocks, begun, first, live = [], 0, id(taken), {id(taken)}
    for index, node in enumerate(nodes):
        live |= {id(tensor) for tensor in node.outputs}
        live = {tensor for tensor in live if last_use.get(tensor, -1) > index}
        if len(live) == 1:
            (last,) = live
            if last != first:
                blocks.append(Segment(nodes[begun : index + 1], first, last))
                begun, first = index + 1, last
    return blocks


def _grouped(blocks: list[Segment], sizes: list[int], kept: list[int], budget: float) -> tuple[int, list[Segment]]:
    """(bytes at the peak, segments) where each segment takes blocks as long as they stay within a budget."""
    groups: list[list[int]] = [[]]
    for index, size in enumerate(sizes):
        if groups[-1] and sum(sizes[i] for i in groups[-1]) + size > budget:
            groups.append([])
        groups[-1].append(index)
    peak = sum(kept[group[-1]] for group in groups) + max(sum(sizes[i] for i in group) for group in groups)
    segments = [
        Segment([node for i in group for node in blocks[i].nodes], blocks[group[0]].first, blocks[group[-1]].last)
        for group in groups
    ]
    return peak, segments


def _bytes(tensor: keras.KerasTensor) -> int:
    """Of one example."""
    return math.prod(side or 1 for side in tensor.shape[1:]) * np.dtype(_numpy_type(tensor.dtype)).itemsize


def _numpy_type(dtype: str) -> str:
    return "float16" if dtype == "bfloat16" else dtype


def _run(name: str, segments: list[Segment], operation_of: OperationCall, tensor: Array) -> Array:
    """The last segment is not recomputed: its gradient is the first that is computed."""
    for segment in segments[:-1]:
        tensor = _recomputed(name, segment, operation_of, tensor)
    return segments[-1].run(operation_of, tensor)


def _recomputed(name: str, segment: Segment, operation_of: OperationCall, tensor: Array) -> Array:
    """The segment's output. As the gradient's functions want it, it is computed by a pure function of tensors."""
    trained = [variable for variable in segment.variables if variable.trainable]
    others = [variable for variable in segment.variables if not variable.trainable]
    assigned: list[keras.Variable] = []

    def compute(tensor: Array, *weights: Array) -> tuple[Array, ...]:
        mapping = [*zip(trained, weights, strict=True), *zip(others, state, strict=True)]
        with keras.StatelessScope(mapping, collect_losses=True, initialize_variables=False) as scope:
            before = [scope.get_current_value(variable) for variable in others]
            output = segment.run(operation_of, tensor)
        if scope.losses:
            raise _refusal(name, "a layer adds a loss of its activations")
        after = [scope.get_current_value(variable) for variable in others]
        changed = [index for index, old in enumerate(before) if after[index] is not old]
        assigned[:] = [others[index] for index in changed]
        return output, *(keras.ops.stop_gradient(after[index]) for index in changed)

    with patches.uncast():
        weights, state = ([keras.ops.convert_to_tensor(v.value) for v in part] for part in (trained, others))
    output, *values = keras.remat(compute)(tensor, *weights)
    for variable, value in zip(assigned, values, strict=True):
        if not keras.backend.is_float_dtype(value.dtype):
            raise _refusal(name, f"{variable.path} counts what is computed, or draws random numbers")
        variable.assign(value)
    return output


def _refusal(name: str, reason: str) -> exits.CannotRun:
    return exits.CannotRun(
        f"--remat cannot compute the layers of --model={name} twice, since {reason}; leave it out, or give --accumulate."
    )
