"""The JAX engine."""

from __future__ import annotations

from convoy.trainer.engines.jax.devices import prepare
from convoy.trainer.engines.jax.engine import JaxEngine as Engine
from convoy.trainer.engines.jax.forward import forward

__all__ = ["Engine", "forward", "prepare"]
