"""Checkpoints: complete or not there, checked when read, readable with NumPy alone."""

from __future__ import annotations

from convoy.trainer.checkpoints.documents import Checkpoint
from convoy.trainer.checkpoints.format import attempts
from convoy.trainer.checkpoints.manager import CheckpointManager, select, weights
from convoy.trainer.checkpoints.saver import Saver

__all__ = ["Checkpoint", "CheckpointManager", "Saver", "attempts", "select", "weights"]
