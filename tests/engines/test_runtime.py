"""What is settled before a model is built: processes, devices, batches that can be shared, a TPU that a stand-in plays."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.sources.in_memory import InMemory
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.runtime import check_microbatches
from convoy.trainer.engines.tensorflow import Engine, prepare
from convoy.trainer.processes import cluster
from convoy.trainer.processes.cluster import Cluster
from support import cluster_variables, environment

TWO = {"worker": ["a:1", "b:2"]}


def tf_config(**values: object) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps(values)}


def jax_variables(processes: object, index: object) -> dict[str, str]:
    return {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(index)}


@pytest.mark.parametrize(
    ("backend", "environment", "expected"),
    [
        ("tensorflow", {}, Cluster()),
        ("tensorflow", {"TF_CONFIG": " {} "}, Cluster()),
        ("tensorflow", tf_config(cluster=TWO, task={"type": "worker", "index": "1"}), Cluster(1, 2, "a:1")),
        ("tensorflow", tf_config(cluster={"chief": ["c:0"], **TWO}, task={"type": "worker", "index": 0}),
         Cluster(1, 3, "c:0")),
        ("tensorflow", tf_config(cluster={"chief": ["c:0"], **TWO}, task={"type": "chief", "index": 0}),
         Cluster(0, 3, "c:0")),
        ("tensorflow", jax_variables(2, 1), Cluster()),
        ("jax", {}, Cluster()),
        ("jax", jax_variables(2, 1), Cluster(1, 2, "a:1")),
        ("jax", tf_config(cluster=TWO, task={"type": "worker", "index": 1}), Cluster()),
    ],
)  # fmt: skip
def test_the_environment_names_the_processes(backend, environment, expected):
    assert cluster.from_environment(backend, environment) == expected


@pytest.mark.parametrize(
    ("backend", "environment", "sentence"),
    [
        ("tensorflow", {"TF_CONFIG": "{"}, "TF_CONFIG is not a cluster and a task .*it looks like"),
        ("tensorflow", {"TF_CONFIG": "[1]"}, "TF_CONFIG is not a cluster"),
        ("tensorflow", tf_config(cluster=TWO), "TF_CONFIG is not a cluster and a task"),
        ("tensorflow", tf_config(cluster={"ps": ["p:1"], **TWO}, task={"type": "worker", "index": 0}), "names ps tasks"),
        ("tensorflow", tf_config(cluster=TWO, task={"type": "worker", "index": 2}), "worker 2, which its cluster"),
        ("jax", {"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS is not set, but"),
        ("jax", jax_variables("two", 0), "must be whole numbers"),
        ("jax", jax_variables(2, 2), "JAX_PROCESS_ID=2 is not among JAX_NUM_PROCESSES=2"),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_is_a_sentence(backend, environment, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        cluster.from_environment(backend, environment)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"devices": "cpu:3", "batch_size": 64}, "--batch_size=64 cannot be shared evenly by --devices=cpu:3; give a mult"),
        ({"devices": "cpu:2", "strategy": "one"}, "--strategy=one trains on one device, but --devices=cpu:2"),
        ({"strategy": "multiworker"}, "--strategy=multiworker, but TF_CONFIG names no other process"),
        ({"devices": "cpu:2", "xla": "on"}, "--xla=on is not possible: it is built for one device, not --strategy=mirrored"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(values, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        prepare(RunConfig(**values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"devices": "cpu:2"}, "MultiWorkerMirroredStrategy uses one CPU device in each process"),
        ({"batch_size": 63}, "--batch_size=63 cannot be shared evenly by --devices=cpu:1 in each of 2 processes"),
        ({"strategy": "mirrored"}, "--strategy=mirrored trains in one process, but the environment names 2"),
    ],
)
def test_what_cannot_be_right_for_several_processes_is_refused(monkeypatch, values, sentence):
    monkeypatch.setattr(cluster, "from_environment", lambda backend: Cluster(0, 2, "a:1"))
    with pytest.raises(exits.CannotRun, match=sentence):
        prepare(RunConfig(**{"devices": "cpu:1", "batch_size": 64, **values}))


def model(*some: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *some])


def test_parts_that_devices_cannot_share_evenly_are_refused_with_batch_normalization_alone():
    config = RunConfig(batch_size=40, accumulate=3)  # 14, 14 and 12
    check_microbatches(config, model(keras.layers.Dense(2)), 4)
    check_microbatches(config, model(keras.layers.BatchNormalization()), 2)
    with pytest.raises(exits.CannotRun, match=r"--accumulate=3 cuts --batch_size=40 .* 4 devices cannot share"):
        check_microbatches(config, model(keras.layers.BatchNormalization()), 4)


def test_without_jax_the_backend_is_a_sentence(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(exits.CannotRun, match=r"--backend=jax needs JAX, .* pip install 'keras-convoy\[jax\]'"):
        engines.choose("jax")


def test_another_backend_than_this_process_has_is_a_sentence():
    with pytest.raises(exits.CannotRun, match="set KERAS_BACKEND=jax first"):
        engines.choose("jax")


SHAPES = []


@keras.saving.register_keras_serializable("runtime")
class Look(keras.layers.Layer):
    def call(self, x):
        SHAPES.append(tuple(x.shape))
        return x


def looking(input_shape, num_classes):
    layers = [keras.layers.Flatten(), Look(), keras.layers.BatchNormalization(), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *layers])


@pytest.fixture
def tpu(monkeypatch):
    """Stands in for a TPU of one core: what was called, in order."""
    calls = []
    resolver = types.SimpleNamespace(
        TPUClusterResolver=lambda tpu: calls.append(f"resolver {tpu}") or "resolver",
        TFConfigClusterResolver=tf.distribute.cluster_resolver.TFConfigClusterResolver,
    )
    monkeypatch.setattr(tf.distribute, "cluster_resolver", resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda found: calls.append(f"connect {found}"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda found: calls.append(f"initialize {found}"))

    def strategy(found):
        calls.append(f"strategy {found}")
        return tf.distribute.MirroredStrategy(["CPU:0"])

    monkeypatch.setattr(tf.distribute, "TPUStrategy", strategy)
    return calls


def test_the_way_to_a_tpu_and_the_static_shapes_it_needs(tpu, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "my-tpu")
    monkeypatch.setitem(sys.modules, "users", types.SimpleNamespace(looking=looking, __file__="users.py"))
    config = RunConfig(strategy="tpu", batch_size=10, accumulate=3, model="users:looking", optimizer="sgd")
    runtime = prepare(config)
    assert tpu == ["resolver my-tpu", "connect resolver", "initialize resolver", "strategy resolver"]
    assert (runtime.config.strategy, runtime.config.precision, runtime.replicas) == ("tpu", "float32", 1)
    examples = InMemory(np.zeros((23, 4, 4, 1)), np.arange(23) % 3)
    engine = Engine(runtime, (4, 4, 1), np.array([8, 8, 7]))
    assert engine.description == "1 TPU cores"
    engine.feed(examples, 0)
    assert all(side is not None for spec in tf.nest.flatten(engine._stream.element_spec) for side in spec.shape)
    SHAPES.clear()
    assert engine.train(2).steps == 2
    assert SHAPES == [(4, 16), (2, 16)]  # the loop over full microbatches, and the tail
    SHAPES.clear()
    assert engine.evaluate(examples, lambda: False).examples == 23
    assert SHAPES == [(23, 16)]


def test_what_a_tpu_cannot_do_is_a_sentence(tpu, monkeypatch):
    with pytest.raises(exits.CannotRun, match="--precision=mixed_float16 is not possible: a TPU"):
        prepare(RunConfig(strategy="tpu", precision="mixed_float16"))
    many = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: many)
    with pytest.raises(exits.CannotRun, match="--batch_size=7 cannot be shared evenly by the 2 cores of the TPU"):
        prepare(RunConfig(strategy="tpu", batch_size=7))


def test_a_tpu_that_is_not_there_is_a_sentence(monkeypatch):
    def fail(tpu):
        raise ValueError("no TPU")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", fail)
    with pytest.raises(exits.CannotRun, match=r"finds no TPU .*\(no TPU\); install tensorflow-tpu .* --backend=jax"):
        prepare(RunConfig(strategy="tpu"))


def test_groups_that_do_not_divide_what_a_device_has_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "users", types.SimpleNamespace(looking=looking, __file__="users.py"))
    runtime = prepare(RunConfig(batch_size=10, batchnorm="ghost:4", model="users:looking"))
    engine = Engine(runtime, (4, 4, 1), np.array([8, 8, 7]))
    engine.feed(InMemory(np.zeros((23, 4, 4, 1)), np.arange(23) % 3), 0)
    with pytest.raises(exits.CannotRun, match="--batchnorm=ghost:4 cannot cut the 10 examples"):
        engine.train(1)


AGREE = """
import json, sys
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

backend, values = sys.argv[1], json.loads(sys.argv[2])
config = choose(backend).prepare(RunConfig(backend=backend, devices="cpu:1", batch_size=8, **values)).config
print(json.dumps([config.kernels, config.gradient_buckets]), flush=True)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_processes_that_cannot_see_the_run_compute_as_the_leading_one_does(backend):
    """Else their collectives would not be the same, and all would wait for ever."""
    own = [{"kernels": "1", "gradient_buckets": 1}, {}]  # of a run that goes on, and of nothing known
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AGREE, backend, json.dumps(values)],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            text=True,
        )
        for values, variables in zip(own, cluster_variables(backend, 2), strict=True)
    ]
    said = [process.communicate(timeout=150)[0].splitlines()[-1] for process in processes]
    assert [json.loads(line) for line in said] == [["1", 1], ["1", 1]]
