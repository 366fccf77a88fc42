"""--devices, --strategy and --precision for TensorFlow."""

from __future__ import annotations

import dataclasses
import os

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
    kind = "gpu" if config.devices == "auto" and gpus else config.devices.partition(":")[0].replace("auto", "cpu")
    if kind == "gpu":
        if not gpus:
            raise exits.CannotRun(
                f"--devices={config.devices}, but TensorFlow sees no GPU here; install the gpu extra and a driver, or use"
                " --devices=cpu:1."
            )
        tf.config.set_visible_devices(gpus[:1], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)
        if len(gpus) > 1:
            print(f"Note: one of {len(gpus)} GPUs is used; training on several is not built yet.")
    else:
        tf.config.set_visible_devices([], "GPU")
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
    return dataclasses.replace(config, devices=f"{kind}:1", strategy="one", precision=precision)


def describe(devices: str) -> str:
    """The devices for a person: a GPU by its name, a CPU by its cores."""
    if devices.startswith("gpu"):
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return f"1 GPU ({details.get('device_name', 'unknown')})"
    return f"1 CPU ({len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores)"
