"""Counts of networks, without their weights in memory: python network_counts.py MODEL... prints JSON, on JAX.

For each --model: parameters, and multiplications with additions of one image of its row's size, with a head for 1000 classes.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

CLASSES = 1000


def counts(model: str) -> tuple[int, int]:
    """(parameters, multiplications with additions) of --model."""
    import jax
    import keras

    from convoy.trainer.models.build import build_model
    from convoy.trainer.models.names import network_of
    from convoy.trainer.models.zoo import hub_networks, keras_networks

    prefix, _, name = model.partition(":")
    if prefix == "hub":
        import keras_hub

        keras_hub.models.Task.compile = lambda *_, **__: None  # would make an optimizer
        keras_hub.models.ImageClassifier.compile = lambda *_, **__: None
    take = hub_networks.take_backbone if prefix == "hub" else keras_networks.take_backbone
    network = network_of(model)
    assert network
    shape = (network.side, network.side, 3)
    with keras.StatelessScope():  # variables get no values here
        if name:
            whole, _, last = take(name, shape, CLASSES)
            parameters = [*whole.trainable_variables, *last.trainable_variables]
        else:
            whole = build_model(model, shape, CLASSES)
            parameters = whole.trainable_variables
        abstract = [
            [jax.ShapeDtypeStruct(tuple(v.shape), v.dtype) for v in variables]
            for variables in (whole.trainable_variables, whole.non_trainable_variables)
        ]
        image = jax.ShapeDtypeStruct((1, *shape), "float32")
        program = jax.make_jaxpr(lambda *values: whole.stateless_call(*values, training=False)[0])(*abstract, image)
        head = whole.output_shape[-1] * CLASSES if name else 0
        keras.utils.clear_session()  # or the end of the scope would initialize them
    return sum(math.prod(variable.shape) for variable in parameters), _multiplications(program.jaxpr) + head


def _multiplications(jaxpr: Any) -> int:
    """Of convolutions and matrix products in a program."""
    total = 0
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            if inner := getattr(value, "jaxpr", None):
                total += _multiplications(getattr(inner, "jaxpr", inner))
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            spatial = [kernel[axis] for axis in equation.params["dimension_numbers"].rhs_spec[1:]]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(spatial)
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    return total


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    for name in sys.argv[1:]:
        print(json.dumps([name, *counts(name)]), flush=True)
