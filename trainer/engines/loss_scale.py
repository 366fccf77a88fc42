"""Dynamic loss scaling for --precision=mixed_float16 (Micikevicius et al. 2018, section 3.2).

The loss is multiplied before it is differentiated, so that small gradients do not vanish in float16. A gradient of the
global batch that is not finite is not applied, on any replica, and halves the scale; it doubles after 2,000 good steps.
"""

from __future__ import annotations

from typing import Any

from keras import ops

INITIAL = 2.0**15
_GOOD_STEPS = 2000


def advance(scale: Any, good: Any, finite: Any) -> tuple[Any, Any]:
    """(scale float32, good steps int32) after a step whose gradient of the global batch was `finite` or not."""
    grows = good + 1 >= _GOOD_STEPS
    up = ops.where(grows, scale * 2, scale)
    scale = ops.where(finite, up, ops.maximum(scale / 2, 1.0))
    return scale, ops.where(ops.logical_and(finite, ops.logical_not(grows)), good + 1, 0)


def hopeless(scale: Any, finite: Any) -> Any:
    """Whether a gradient was not finite although the scale can fall no further."""
    return ops.logical_and(ops.logical_not(finite), scale <= 1.0)
