"""The TensorFlow engine."""

from __future__ import annotations

from convoy.trainer.engines.tensorflow.devices import prepare
from convoy.trainer.engines.tensorflow.engine import TensorFlowEngine as Engine
from convoy.trainer.engines.tensorflow.forward import forward
from convoy.trainer.engines.tensorflow.probe import copies, products

__all__ = ["Engine", "copies", "forward", "prepare", "products"]
