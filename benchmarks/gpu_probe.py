"""Answers gpu_check.py from a process of its own, as JSON in the last line that begins with {.

gpu_probe.py gpus BACKEND                   how many GPUs it sees, and the name of the first
gpu_probe.py multiplications MODEL PIXELS   multiply-adds of one image in convolutions and dense layers, forward
gpu_probe.py reductions BACKEND DEVICES     what sums over the devices in the compiled loop, after two steps of it
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import math
import re
import sys
from typing import Any

from convoy import entry, exits

CLASSES = 1000


def gpus(backend: str) -> dict[str, Any]:
    devices: list[Any] = []
    name = ""
    if backend == "tensorflow":
        import tensorflow as tf

        if devices := tf.config.list_physical_devices("GPU"):
            name = tf.config.experimental.get_device_details(devices[0]).get("device_name", "unknown")
    elif importlib.util.find_spec("jax"):
        import jax

        with contextlib.suppress(RuntimeError):  # raised where there is none
            devices = jax.devices("gpu")
            name = devices[0].device_kind
    return {"count": len(devices), "name": name}


def multiplications(model: str, pixels: int) -> dict[str, Any]:
    from convoy.trainer import engines

    engines.choose("tensorflow")
    import keras

    from convoy.trainer.models.build import build_model

    total = 0
    for layer in build_model(model, (pixels, pixels, 3), CLASSES)._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return {"multiplications": total}


def reductions(backend: str, devices: str) -> dict[str, Any]:
    """Operation -> its number in a step; without BatchNormalization the model has only the gradient to sum."""
    from convoy.trainer import engines

    package = engines.choose(backend)
    import numpy as np
    import tensorflow as tf

    from convoy.data.sources.in_memory import InMemory
    from convoy.trainer.config import RunConfig

    count = int(devices.partition(":")[2])
    runtime = package.prepare(RunConfig(backend=backend, devices=devices, batch_size=8 * count))
    engine = package.Engine(runtime, (8, 8, 1), np.full(10, 6))
    engine.feed(InMemory(np.zeros((64, 8, 8, 1)), np.zeros(64)), 0)
    if backend == "tensorflow":
        graph = engine._loop.get_concrete_function(engine._stream, tf.constant(1)).graph.as_graph_def()
        nodes = [node for function in graph.library.function for node in function.node_def]
        kinds = [node for node in nodes if re.search("Collective|Nccl", node.op)]
        # Each replica has its own in the graph. The hint names its carrier: nccl, ring or auto.
        operations = collections.Counter(
            f"{node.op} {node.attr['communication_hint'].s.decode()}".strip() for node in kinds
        )
        each = {name: number / count for name, number in operations.items()}
    else:
        program = engine.programs.lower().compile().as_text()
        each = dict(collections.Counter(re.findall(r" (all-reduce)(?:-start)?\(", program)))
    engine.train(2)
    return each


def main() -> int:
    what, first, *more = sys.argv[1:]
    if what == "gpus":
        answer = gpus(first)
    elif what == "multiplications":
        answer = multiplications(first, int(more[0]))
    else:
        answer = reductions(first, more[0])
    # On a line of its own, whatever NCCL was writing.
    print("\n" + json.dumps(answer), flush=True)
    return exits.OK


if __name__ == "__main__":
    entry.call(main)
