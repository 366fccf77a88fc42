"""Train Keras image classifiers, and get the same result again. In three lines:

    import convoy
    run = convoy.train("folder:photos", image_size=96, duration="10ep")
    run.predict("new/")

This package itself is the ground floor: front door, exit codes, supervisor, store. It imports nothing of Convoy's other floors
until one of the names below is asked for, and never TensorFlow, Keras or JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.api import Measurement, Prediction, Predictions, Run, open, train

__version__ = "0.1.0"
__all__ = ["Measurement", "Prediction", "Predictions", "Run", "open", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("convoy.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
