"""Counts of one training step on two logical CPU devices, without a clock: python step_counts.py BACKEND prints JSON.

Of TensorFlow the graph as Convoy builds it, of JAX the program as XLA compiles it for a CPU. Nothing that depends on the
processor is counted: what a library fuses, and in which order it stores an array.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import re
import sys

import numpy as np

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

# With statistics of each device, a BatchNormalization of TensorFlow is one operation.
MODELS = {"article_cnn": {}, "resnet18": {}, "resnet18, local": {"batchnorm": "local"}}
BATCH, CLASSES, SHAPE = 8, 10, (32, 32, 3)
BACKEND = sys.argv[1]
ENGINES = choose(BACKEND)
RUNTIME = ENGINES.prepare(RunConfig(backend=BACKEND, devices="cpu:2", batch_size=BATCH))
OF_TENSORFLOW = {
    "convolutions": "Conv2D",
    "gradients of kernels": "Conv2DBackpropFilter",
    "gradients of images": "Conv2DBackpropInput",
    "matrix products": "MatMul",
    "normalizations": "FusedBatchNormV3",
    "gradients of normalizations": "FusedBatchNormGradV3",
    "casts": "Cast",
    "transposes": "Transpose",
    "collectives": "CollectiveReduceV2",
}
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "s32": 4, "f64": 8}


def of_graph(engine):
    import tensorflow as tf

    graph = engine._loop.get_concrete_function(engine._stream, tf.constant(1)).graph.as_graph_def()
    kinds = collections.Counter(node.op for node in graph.node)
    for function in graph.library.function:
        kinds.update(node.op for node in function.node_def)
    return {name: kinds[kind] for name, kind in OF_TENSORFLOW.items()} | {"operations": kinds.total()}


def of_program(engine):
    from convoy.trainer.engines.jax import probe

    program = engine.programs.lower().compile()
    # name = shapes kind(operands), where a comment may have an = of its own
    instructions = re.findall(r" = (.*?) (convolution|dot|all-reduce|all-reduce-start)\(", program.as_text())
    kinds = collections.Counter(kind.removesuffix("-start") for _, kind in instructions)
    summed = 0
    for shapes, kind in instructions:
        arrays = re.findall(r"\b(\w+)\[([\d,]*)\]", shapes) if kind.startswith("all-reduce") else []
        summed += sum(BYTES[dtype] * math.prod(map(int, filter(None, sides.split(",")))) for dtype, sides in arrays)
    return {
        "convolutions": kinds["convolution"],
        "matrix products": kinds["dot"],
        "all-reduces": kinds["all-reduce"],
        "bytes of all-reduces": summed,
        "FLOPs": int(probe.flops(program)),
    }


def engine_of(model):
    from convoy.data.sources.in_memory import InMemory
    from convoy.trainer.engines.runtime import set_up_keras

    network = model.partition(",")[0]
    config = dataclasses.replace(RUNTIME.config, model=network, optimizer="sgd", duration="10st", **MODELS[model])
    set_up_keras(config)
    draws = np.full(CLASSES, 8)
    engine = ENGINES.Engine(dataclasses.replace(RUNTIME, config=config), SHAPE, draws)
    labels = np.arange(80) % CLASSES
    engine.feed(InMemory(np.zeros((80, *SHAPE), np.uint8), labels), 0)
    return engine


counts = {"tensorflow": of_graph, "jax": of_program}[BACKEND]
# JAX compiles for seconds, and has no operation for a normalization.
print(json.dumps({model: counts(engine_of(model)) for model in MODELS if BACKEND == "tensorflow" or not MODELS[model]}))
