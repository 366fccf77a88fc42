"""The JAX engine."""

from __future__ import annotations

from convoy.trainer.engines.jax.devices import prepare
from convoy.trainer.engines.jax.engine import JaxEngine as Engine

__all__ = ["Engine", "prepare"]
