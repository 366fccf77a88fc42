"""Functions with gradients of our own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeAlias

import tensorflow as tf

P = ParamSpec("P")
Gradients: TypeAlias = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def with_gradients(function: Callable[P, tuple[tf.Tensor, Gradients]]) -> Callable[P, tf.Tensor]:
    """tf.custom_gradient of a function in a graph. Gradients stand in the scope of the call, where a profile looks for them."""

    @functools.wraps(function)
    def call(*tensors: P.args, **nothing: P.kwargs) -> tuple[tf.Tensor, Gradients]:
        outputs, gradients = function(*tensors, **nothing)
        scope = tf.get_current_name_scope()

        def scoped(of_outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.name_scope(scope and f"{scope}/"):  # with a slash it is absolute
                return gradients(of_outputs)

        return outputs, scoped

    return tf.custom_gradient(call)
