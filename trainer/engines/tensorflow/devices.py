"""--devices, --strategy and --precision for TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from convoy import exits
from trainer.config import RunConfig

# Whether operations are deterministic in this process: TensorFlow can turn that on, not off again.
deterministic = False


def prepare(config: RunConfig) -> RunConfig:
    """Makes the asked devices the only visible ones; returns the run with devices, strategy and precision resolved.

    Before anything else touches TensorFlow: reading a data set with it, too, fixes what is visible.
    """
    gpus = tf.config.list_physical_devices("GPU")
    asked = config.devices
    if asked == "auto":
        asked = f"gpu:{1 if config.strategy == 'one' else len(gpus)}" if gpus else "cpu:1"
    kind, count = asked.split(":")[0], int(asked.split(":")[1])
    strategy = ("mirrored" if count > 1 else "one") if config.strategy == "auto" else config.strategy
    if strategy == "one" and count > 1:
        raise exits.CannotRun(f"--strategy=one trains on one device, but --devices={asked}; leave one of them out.")
    if config.batch_size % count:
        raise exits.CannotRun(
            f"--batch_size={config.batch_size} cannot be shared evenly by --devices={asked}; give a multiple of {count}."
        )
    _make_visible(kind, count, gpus)
    if config.deterministic:
        global deterministic
        tf.config.experimental.enable_op_determinism()
        deterministic = True
    # Automatic layer names count up for as long as the process lives, and variables' paths are the keys of a checkpoint.
    # First of all: it forgets the seed and the precision too.
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed % 2**32)
    precision = "float32" if config.precision == "auto" else config.precision
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    keras.config.set_dtype_policy(precision)
    return dataclasses.replace(config, devices=asked, strategy=strategy, precision=precision)


def build_strategy(config: RunConfig) -> tf.distribute.Strategy:
    """The prepared run's strategy; TensorFlow's default one, which does nothing, for a single device."""
    if config.strategy == "one":
        return tf.distribute.get_strategy()
    kind, count = config.devices.split(":")
    return tf.distribute.MirroredStrategy([f"{kind.upper()}:{index}" for index in range(int(count))])


def _make_visible(kind: str, count: int, gpus: list[Any]) -> None:
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        if count > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        return
    if count > len(gpus):
        raise exits.CannotRun(
            f"--devices=gpu:{count}, but TensorFlow sees {len(gpus) or 'no'} GPU{'s' * (len(gpus) > 1)} here; install the gpu"
            " extra and a driver, or use --devices=cpu:1."
        )
    tf.config.set_visible_devices(gpus[:count], "GPU")
    for gpu in gpus[:count]:
        tf.config.experimental.set_memory_growth(gpu, True)


def describe(devices: str) -> str:
    """The devices for a person: a GPU by its name, a CPU by its cores."""
    kind, count = devices.split(":")
    if kind == "gpu":
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return f"{count} GPU ({details.get('device_name', 'unknown')})"
    return f"{count} CPU ({len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores)"
