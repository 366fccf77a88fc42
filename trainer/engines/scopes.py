"""The names that parts of a step outside the network have in a profile and in the program's operations."""

from __future__ import annotations

import re

LOSS, METRICS = "convoy.loss", "convoy.metrics"
GRADIENT_SUM, CLIPPING, OPTIMIZER = "convoy.gradient_sum", "convoy.clipping", "convoy.optimizer"
AVERAGE, GUARDS = "convoy.average", "convoy.guards"

_SCOPE = re.compile(r"\bconvoy\.([a-z_]*[a-z])")


def scope_of(operation: str) -> str:
    """The part of a step that an operation belongs to, loss for one; "" for those of the network and the loop."""
    match = _SCOPE.search(operation)
    return match[1] if match else ""
