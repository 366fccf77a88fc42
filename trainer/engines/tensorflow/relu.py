"""ReLU in bfloat16 on a CPU, in one pass over memory with an addition before it, or with the sum of two gradients after it.

XLA compiles each of these into one loop. TensorFlow's operations have the same bits, but make a pass each, and are slower in 16
bits; in float32 its own are ahead. Only what it adds within a convolution, with a rounding less, has other bits.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from convoy.trainer.engines.tensorflow.gradients import Gradients, with_gradients

# Of fewer a pass is too short for what it takes to compile and to call a loop.
_ELEMENTS = 1 << 20


def relu(values: tf.Tensor) -> tf.Tensor:
    """tf.nn.relu in a graph."""
    if values.dtype != tf.bfloat16 or None in values.shape or values.shape.num_elements() < _ELEMENTS:
        return tf.nn.relu(values)
    terms = _terms(values)

    @with_gradients
    def rectify(*terms: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        outputs = tf.nn.relu(terms[0]) if len(terms) == 1 else _flat(_relu_of_sum, *terms)

        def gradients(of_outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return (_flat(_gradient, outputs, *_terms(of_outputs)),) * len(terms)

        return outputs, gradients

    return rectify(*terms)


def _terms(tensor: tf.Tensor) -> list[tf.Tensor]:
    """The two that a tensor is the sum of, each of its shape; otherwise itself."""
    terms = list(tensor.op.inputs) if tensor.op.type in ("Add", "AddV2", "AddN") else []
    return terms if len(terms) == 2 and all(term.shape == tensor.shape for term in terms) else [tensor]


def _flat(call: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
    """An elementwise call: tensors of one length share a compiled loop, whatever their shapes are."""
    return tf.reshape(call(*(tf.reshape(tensor, [-1]) for tensor in tensors)), tensors[0].shape)


@tf.function(jit_compile=True)
def _relu_of_sum(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(first + second)


@tf.function(jit_compile=True)
def _gradient(outputs: tf.Tensor, *of_outputs: tf.Tensor) -> tf.Tensor:
    """As tf.raw_ops.ReluGrad, which multiplies: infinity where ReLU is off gives NaN, and a negative gradient -0."""
    return sum(of_outputs[1:], of_outputs[0]) * tf.cast(outputs > 0, outputs.dtype)
