"""The JAX engine."""

from __future__ import annotations

from trainer.engines.jax.devices import prepare
from trainer.engines.jax.engine import JaxEngine as Engine

__all__ = ["Engine", "prepare"]
