"""The TensorFlow engine."""

from __future__ import annotations

from trainer.engines.tensorflow.devices import prepare
from trainer.engines.tensorflow.engine import TensorFlowEngine as Engine

__all__ = ["Engine", "prepare"]
