"""The TensorFlow engine."""

from __future__ import annotations

from convoy.trainer.engines.tensorflow.devices import prepare
from convoy.trainer.engines.tensorflow.engine import TensorFlowEngine as Engine

__all__ = ["Engine", "prepare"]
