"""Imports TensorFlow and Keras without what they only look for, which is two fifths of the CPU time of that import
(findings/tensorflow_imports_jax_sklearn_matplotlib.sh), and without a search for garbage (benchmarks/results/start.csv).

TensorFlow's converter for phones imports JAX, Keras' wrappers scikit-learn, its plots matplotlib, its editor of files IPython,
each inside a `try`, and some for as long as a second. No run uses them through these, and whoever imports them afterwards gets
them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator

LOOKED_FOR = ("jax", "sklearn", "matplotlib", "IPython")


def tensorflow_and_keras(backend: str = "tensorflow") -> None:
    """Imports both; KERAS_BACKEND must be set before. With --backend=jax, JAX is not hidden from them."""
    with absent(*(name for name in LOOKED_FOR if name != backend)):
        importlib.import_module("tensorflow")
        importlib.import_module("keras")


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Within, Python does not look for garbage among what is imported, and afterwards never again among what there is then.

    Modules stay as long as the process does, and TensorFlow's have very many objects.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if looks:
            gc.enable()


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Within, importing one of these packages raises ModuleNotFoundError, unless it has been imported before."""
    hidden = [name for name in names if name not in sys.modules]
    # Python's own way to say so: an entry of None.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
