"""Dynamic loss scaling for --precision=mixed_float16 (Micikevicius et al. 2018, section 3.2).

The loss is multiplied before it is differentiated, so that small gradients do not vanish in float16. If the gradient of the
global batch is not finite, all replicas skip the step and the scale is halved. It doubles after 2,000 good steps. The loss
itself is not scaled, so a loss that is not finite says nothing about the scale.
"""

from __future__ import annotations

from keras import ops

from convoy.data.arrays import Flag, Scalar

INITIAL = 2.0**15
_GOOD_STEPS = 2000


def advance(scale: Scalar, good: Scalar, loss: Scalar, norm: Scalar) -> tuple[Scalar, Scalar]:
    """(scale float32, good steps int32) after a step with this loss and norm of the gradient of the global batch."""
    fits = ops.isfinite(norm)
    grows = good + 1 >= _GOOD_STEPS
    up = ops.where(grows, scale * 2, scale)
    new_scale = ops.where(fits, up, ops.maximum(scale / 2, 1.0))
    new_good = ops.where(ops.logical_and(fits, ops.logical_not(grows)), good + 1, 0)
    tells = ops.isfinite(loss)
    return ops.where(tells, new_scale, scale), ops.where(tells, new_good, good)


def hopeless(scale: Scalar, loss: Scalar, norm: Scalar) -> Flag:
    """Whether the gradient of a finite loss was not finite although the scale can fall no further."""
    overflows = ops.logical_and(ops.isfinite(loss), ops.logical_not(ops.isfinite(norm)))
    return ops.logical_and(overflows, scale <= 1.0)
