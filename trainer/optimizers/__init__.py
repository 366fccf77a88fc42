"""Optimizers by name: names.py has a row for each. Those of our own are classes for plain Keras too.

This package imports Keras when one of the classes is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.trainer.optimizers.lamb import LAMB
    from convoy.trainer.optimizers.lars import LARS
    from convoy.trainer.optimizers.muon_conv import MuonConv
    from convoy.trainer.optimizers.schedule_free import ScheduleFreeAdamW

__all__ = ["LAMB", "LARS", "MuonConv", "ScheduleFreeAdamW"]

_MODULES = {"LAMB": "lamb", "LARS": "lars", "MuonConv": "muon_conv", "ScheduleFreeAdamW": "schedule_free"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"convoy.trainer.optimizers.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
