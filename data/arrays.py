"""Names for arrays in signatures: what an array holds, its shape and its dtype. Imports nothing heavy.

Each may be of TensorFlow, JAX or NumPy, in a graph or outside. n is the number of examples or positions, h, w, c are height,
width and channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import jax
    import tensorflow as tf

Array: TypeAlias = (
    "tf.Tensor | jax.Array | np.ndarray"  # any shape, any dtype: where an alias below says more, use that
)

# One number or flag.
Scalar: TypeAlias = Array  # []
Flag: TypeAlias = Array  # bool []

# A batch.
Image: TypeAlias = Array  # uint8 [h, w, c]
Images: TypeAlias = Array  # uint8 [n, h, w, c]
Labels: TypeAlias = Array  # int32 [n], from 0 to the number of classes
LabelPairs: TypeAlias = Array  # int32 [n, 2]: an example's own label, and its partner's in a mix
LabelWeights: TypeAlias = Array  # float32 [n, 2]: how much of the target each label of a pair is
Valid: TypeAlias = Array  # float32 [n]: 1, or 0 where an example does not count
Weights: TypeAlias = Array  # float32 [n]: by which the examples of an evaluation count
Logits: TypeAlias = Array  # floats [n, classes]
Losses: TypeAlias = Array  # floats [n], one per example; [steps], one per step

# The order of examples.
Positions: TypeAlias = Array  # int64 [n], of the training stream
PositionWords: TypeAlias = (
    Array  # uint32 [n, 2]: low and high word of each position; JAX has no 64-bit integers by default
)
Indices: TypeAlias = Array  # int64 [n], of examples in a split
Uniforms: TypeAlias = Array  # float32 [n, k] in [0, 1): random numbers, a row per position
ClassCounts: TypeAlias = "np.ndarray"  # int64 [classes]

# Geometry and colour of images.
PerImage: TypeAlias = Array  # [n]: one number or flag per image
Maps: TypeAlias = Array  # float32 [n, 2, 3]: from a pixel of the output to a place in the input
Window: TypeAlias = Array  # float32 [4]: top, left, height, width
Windows: TypeAlias = Array  # float32 [n, 4]
Boxes: TypeAlias = Array  # int32 [n, 4]: top, left, bottom, right; the last two excluded
Tables: TypeAlias = Array  # uint8 [n, c, 256] or [n, 1, 256]: what each level becomes
