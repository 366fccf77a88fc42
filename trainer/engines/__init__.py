"""Engines: the only place that knows how a step is computed and spread over devices."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from convoy import exits, imports, noise
from convoy.trainer.engines import allocator, onednn
from convoy.trainer.flags.choices import BACKENDS


def choose(backend: str, use_onednn: str = "auto") -> ModuleType:
    """The engine package of --backend: `prepare(config)` -> Runtime, and `Engine`. Before Keras and TensorFlow are imported for
    the first time in this process, which decides on Keras' backend and --onednn."""
    for name, value in noise.QUIET.items():
        os.environ.setdefault(name, value)
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != backend:
        raise exits.CannotRun(
            f"Keras was imported with another backend than --backend={backend} in this process; set KERAS_BACKEND={backend}"
            " first."
        )
    os.environ["KERAS_BACKEND"] = backend
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise exits.CannotRun(
            "--backend=jax needs JAX, which is not installed; pip install 'keras-convoy[jax]' (on a TPU: [tpu]), or leave"
            " --backend out."
        )
    allocator.keep_freed_memory(one_heap=backend == "jax")
    onednn.choose(use_onednn)
    if "keras" in sys.modules:
        return BACKENDS.load(backend)
    with imports.lasting():
        imports.tensorflow_and_keras(backend)
        return BACKENDS.load(backend)
