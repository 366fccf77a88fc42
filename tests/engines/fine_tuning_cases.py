"""Cases of what a fine-tuner adds: stages, frozen layers, recomputed activations, Keras' own random layers by position.

Run by engine_cases.py; those of LONG only where they are named.
"""

from __future__ import annotations

import importlib
import re
import unittest.mock
from typing import Any

import numpy as np
from case_setup import BACKEND, BATCH, DEVICES, SHAPE, after, engine, labelled
from keras import ops

from convoy.trainer.layers import drawing
from convoy.trainer.models.names import MODELS, ModelEntry

STAGED = {
    "unfreeze": "3st",
    "groups": "/dense/bias:freeze;dense_1/bias:lr=0.3;dense_1:wd=0.5",
    "layer_decay": 0.5,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "learning_rate": 0.01,
    "ema": 0.9,
    "clip_norm": 1.0,
}


def stages() -> dict[str, np.ndarray]:
    """Six steps in two stages; and the last three again, from the state at the border."""
    built, states, losses = engine("normalized", **STAGED), [], []
    for step in (0, 3):
        states.append(built.state())
        built.enter_stage(step)
        losses.append(built.train(3).losses)
    states.append(built.state())
    again = engine("normalized", first_position=3 * BATCH, **STAGED)
    again.restore(states[1])
    again.enter_stage(3)
    again.train(3)
    first, border, end = states
    return {
        **end,
        "losses": np.concatenate(losses),
        "names": np.array(list(end)),
        "changed_before": np.array([name for name in end if (first[name] != border[name]).any()]),
        "changed_after": np.array([name for name in end if (border[name] != end[name]).any()]),
    } | labelled(once=end, restored=again.state())


def frozen() -> dict[str, np.ndarray]:
    """What a program has for layers that never train; on one device, what it has where all train too."""
    step, found = importlib.import_module(f"convoy.trainer.engines.{BACKEND}.step"), {}
    flags = {"frozen": {"groups": "conv2d:freeze", "batchnorm": "frozen"}, "all": {}}
    for label in list(flags)[: 2 if DEVICES == 1 else 1]:
        built = engine("convolved", **flags[label], ema=0.9, optimizer="adam", noise_scale=DEVICES > 1)
        sent: list[int] = []
        reduced = step.all_sum
        step.all_sum = lambda tensor, sent=sent, reduced=reduced: sent.append(int(tensor.shape[0])) or reduced(tensor)
        try:
            operations = _operations(built)
        finally:
            step.all_sum = reduced
        found |= {
            f"{label}/gradients": np.array(sum("Conv2DBackprop" in name for name in operations)),
            f"{label}/convolutions": np.array(operations.count("convolution")),
            f"{label}/sent": np.array(sent),
            f"{label}/names": np.array(list(built.shapes())),
            f"{label}/parameters": np.array(built.parameters),
        }
    return found


def _operations(built: Any) -> list[str]:
    """The operations of the program of a step."""
    if BACKEND == "jax":
        return re.findall(r"stablehlo\.(\w+)", built.programs.lower().as_text())
    import tensorflow as tf

    graph = built._loop.get_concrete_function(built._stream, tf.constant(1)).graph.as_graph_def()
    return [node.op for function in graph.library.function for node in function.node_def]


def rematerialized() -> dict[str, np.ndarray]:
    """The same steps with all activations kept, and with most computed again."""
    found = {}
    for label, remat in (("kept", False), ("again", True)):
        built = engine("residual", remat=remat, accumulate=2, ema=0.9, clip_norm=1.0)
        found |= labelled(**{label: after(built, 3)})
        if BACKEND == "jax" and DEVICES == 1:
            found[f"bytes/{label}"] = np.array(bytes_between(built.model))
            found[f"notes/{label}"] = np.array(sum("--remat" in note for note in built.notes))
    return found


def bytes_between(model: Any) -> int:
    """Of what JAX keeps from the forward to the backward pass, besides the weights."""
    import jax

    images, positions = np.zeros((BATCH, *SHAPE)), np.zeros((BATCH, 2), np.uint32)

    def total(trainable: Any) -> Any:
        with drawing(0, positions):
            return ops.sum(model.stateless_call(trainable, other, images, training=True)[0])

    trainable, other = ([v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables))
    gradient = jax.vjp(total, trainable)[1]
    kept = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(gradient) if hasattr(leaf, "nbytes")}
    return sum(kept.values()) - sum(value.nbytes for value in trainable)


def by_position() -> dict[str, np.ndarray]:
    """Steps of a network of ours with Keras' random layers in a nested model; it has a row, so is no user's own."""
    with unittest.mock.patch.dict(MODELS.rows, {"toy": ModelEntry("cases:toy", "")}):
        built = engine("toy", of="", batchnorm="sync", accumulate=2)
    return after(built, 3) | {"notes": np.array(len(built.notes))}


# Case -> the most devices it says anything new on.
CASES = {"frozen": (frozen, 2)}
if (BACKEND, DEVICES) != ("jax", 1):  # which the others say enough of
    CASES["stages"] = (stages, 2)
LONG = {"rematerialized": (rematerialized, 2), "by_position": (by_position, 4)}
