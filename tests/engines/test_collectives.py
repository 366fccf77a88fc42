"""The program of a loop on two replicas: what crosses between devices, counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import dataclasses, importlib, json, sys, types
import numpy as np
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

backend = sys.argv[1]
engines = choose(backend)
runtime = engines.prepare(RunConfig(backend=backend, model="article_cnn", devices="cpu:2", batch_size=16))
import keras
from keras import layers
from convoy.data.sources.in_memory import InMemory

def normalized(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(),
                             layers.Dense(classes)])
sys.modules["users"] = types.SimpleNamespace(normalized=normalized)

def collectives(**values):
    config = dataclasses.replace(runtime.config, **values)
    engine = engines.Engine(dataclasses.replace(runtime, config=config), (8, 8, 1), np.full(10, 6))
    engine.feed(InMemory(np.zeros((64, 8, 8, 1)), np.zeros(64)), 0)
    if backend == "jax":
        return engine.programs.lower().as_text().count("stablehlo.all_reduce")
    import tensorflow as tf
    graph = engine._loop.get_concrete_function(engine._stream, tf.constant(1)).graph.as_graph_def()
    ops = [node.op for function in graph.library.function for node in function.node_def]
    found = [op for op in ops if "Collective" in op or "Nccl" in op]
    assert set(found) == {"CollectiveReduceV2"}, found
    return len(found) / 2  # each replica has its own

def sent(**values):
    # What a replica sums over all, in order: how many numbers of what type.
    config = dataclasses.replace(runtime.config, **values)
    engine = engines.Engine(dataclasses.replace(runtime, config=config), (8, 8, 1), np.full(10, 6))
    engine.feed(InMemory(np.zeros((64, 8, 8, 1)), np.zeros(64)), 0)
    vectors, all_sum = [], steps.all_sum
    def watched(tensor):
        vectors.append([int(np.prod(tensor.shape)), keras.backend.standardize_dtype(tensor.dtype)])
        return all_sum(tensor)
    steps.all_sum = watched
    engine.compile()
    steps.all_sum = all_sum
    weights = sum(int(np.prod(variable.shape)) for variable in engine.model.trainable_variables)
    return weights, vectors[::2] if backend == "tensorflow" else vectors

steps = importlib.import_module(f"convoy.trainer.engines.{backend}.step")
cases = json.loads(sys.argv[2])
print(json.dumps([[collectives(**case) for case in cases], sent(gradient_buckets=3),
                  sent(gradient_buckets=3, gradient_dtype="bfloat16")]))
"""

CASES = {
    "one reduction per step": {"clip_norm": 1.0, "ema": 0.9},
    "none for the parts of a batch": {"accumulate": 4, "clip_norm": 1.0, "ema": 0.9},
    "one each way for synchronized statistics": {"model": "users:normalized"},
    "and so for each part": {"model": "users:normalized", "accumulate": 4},
    "none for statistics of frozen layers": {
        "model": "users:normalized",
        "groups": "conv|batch:freeze",
        "accumulate": 4,
    },
    "one for the moving statistics of all local ones": {"model": "users:normalized", "batchnorm": "local"},
    "and no more for parts": {"model": "users:normalized", "batchnorm": "local", "accumulate": 4},
    "one for each bucket": {"gradient_buckets": 2, "accumulate": 4},
}
# Keras' own synchronized BatchNormalization has three forward and two backward. JAX's parts are the same operations of a
# loop; TensorFlow's are written out one after the other.
EXPECTED = {"tensorflow": [1, 1, 1 + 2, 1 + 4 * 2, 1, 1 + 1, 1 + 1, 2], "jax": [1, 1, 1 + 2, 1 + 2, 1, 1 + 1, 1 + 1, 2]}


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_what_crosses_between_devices(backend):
    argv = [sys.executable, "-c", PROGRAM, backend, json.dumps(list(CASES.values()))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, *sent = json.loads(done.stdout.splitlines()[-1])
    assert dict(zip(CASES, found, strict=True)) == dict(zip(CASES, EXPECTED[backend], strict=True))
    # The gradient of every weight once, with the loss and the count of correct examples, which never lose digits.
    for (weights, vectors), dtype in zip(sent, ("float32", "bfloat16"), strict=True):
        *gradients, with_numbers = vectors
        assert {kind for _, kind in gradients} == {dtype}
        assert with_numbers[1] == "float32"
        assert sum(size for size, _ in vectors) == weights + 2
        assert len(gradients) <= 3
    assert sent[1][1][-1][0] == 2
