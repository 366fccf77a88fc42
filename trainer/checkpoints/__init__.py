"""Checkpoints: complete or not there, checked when read, readable with NumPy alone."""

from __future__ import annotations

from trainer.checkpoints.documents import Checkpoint
from trainer.checkpoints.format import attempts
from trainer.checkpoints.keeper import Keeper, select
from trainer.checkpoints.saver import Saver

__all__ = ["Checkpoint", "Keeper", "Saver", "attempts", "select"]
