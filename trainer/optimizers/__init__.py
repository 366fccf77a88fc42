"""Optimizers by name: names.py has a row for each. Those of our own are classes for plain Keras too.

This package imports Keras when one of the classes is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.trainer.optimizers.lamb import LAMB
    from convoy.trainer.optimizers.lars import LARS

__all__ = ["LAMB", "LARS"]

_MODULES = {"LAMB": "lamb", "LARS": "lars"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"convoy.trainer.optimizers.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
