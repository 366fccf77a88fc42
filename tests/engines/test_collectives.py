"""The graph of a loop on two replicas: what crosses between devices, counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import collections, json, sys, types
import numpy as np
import keras
from keras import layers
from data.sources.examples import InMemory
from trainer.config import RunConfig
from trainer.engines.tensorflow import Engine, prepare
import tensorflow as tf

def normalized(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(),
                             layers.Dense(classes)])
sys.modules["users"] = types.SimpleNamespace(normalized=normalized)
config = prepare(RunConfig(**json.loads({config!r})))
engine = Engine(config, (8, 8, 1), 10, 64)
engine.feed(InMemory(np.zeros((64, 8, 8, 1)), np.zeros(64)), 0)
graph = engine._train.get_concrete_function(engine._stream, tf.constant(1)).graph.as_graph_def()
nodes = [node for function in graph.library.function for node in function.node_def]
print(json.dumps(collections.Counter(node.op for node in nodes if "Collective" in node.op or "Nccl" in node.op)))
"""


def collectives(**config) -> dict[str, int]:
    """Collective ops per replica in the graph of the training loop on two CPU devices."""
    program = PROGRAM.format(config=json.dumps({"devices": "cpu:2", "batch_size": 16, **config}))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: count / 2 for name, count in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_one_reduction_per_step_and_none_for_the_parts_of_a_batch(accumulate):
    assert collectives(accumulate=accumulate, clip_norm=1.0, ema=0.9) == {"CollectiveReduceV2": 1}


def test_a_synchronized_normalization_adds_one_each_way():
    # Keras' own adds three forward and two backward.
    assert collectives(model="users:normalized") == {"CollectiveReduceV2": 1 + 2}
