"""The plain vision transformer (Dosovitskiy et al. 2021) as Beyer et al. 2022, "Better plain ViT baselines", train it.

No token for the class, positions that are not learned, and a head of one layer. Initializers are those of big_vision.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from convoy import exits

_PATCH, _WIDTH, _DEPTH, _HEADS, _MLP = 16, 384, 12, 6, 1536  # S/16
_TEMPERATURE = 10_000.0  # of the slowest wave of the positions


def vit_s16(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Logits [n, num_classes] of images [n, h, w, c] in [0, 1]; h and w are multiples of 16."""
    height, width, _ = image_shape
    if height % _PATCH or width % _PATCH:
        raise exits.CannotRun(
            f"--model=vit_s16 cuts images into squares of {_PATCH} pixels, and these have {width}x{height}; give an"
            f" --image_size that {_PATCH} divides."
        )
    image = keras.Input(image_shape, name="image")
    x = layers.Rescaling(2.0, -1.0, name="normalize")(image)
    x = layers.Conv2D(_WIDTH, _PATCH, _PATCH, kernel_initializer=keras.initializers.LecunNormal(), name="embedding")(x)
    x = layers.Reshape((-1, _WIDTH), name="patches")(x)
    x = _Positions(height // _PATCH, width // _PATCH, name="positions")(x)
    for block in range(1, _DEPTH + 1):
        name = f"block{block}"
        x = layers.Add(name=f"{name}_add1")([x, _attention(_normalized(x, f"{name}_norm1"), name)])
        x = layers.Add(name=f"{name}_add2")([x, _mlp(_normalized(x, f"{name}_norm2"), name)])
    x = layers.GlobalAveragePooling1D(name="pool")(_normalized(x, "encoder_norm"))
    return keras.Model(image, layers.Dense(num_classes, kernel_initializer="zeros", name="logits")(x), name="vit_s16")


def positions(rows: int, columns: int) -> np.ndarray:
    """What is added to each patch, float32 [rows * columns, width]: sines and cosines of its column, then of its row.

    Chen et al. 2021 (MoCo v3), section 4.3; here as in big_vision.
    """
    waves = _TEMPERATURE ** -np.linspace(0, 1, _WIDTH // 4)
    row, column = (np.outer(place.ravel(), waves) for place in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], 1).astype(np.float32)


class _Positions(layers.Layer):
    """[n, rows * columns, width] -> the same with each patch's position added."""

    def __init__(self, rows: int, columns: int, **options: Any) -> None:
        super().__init__(**options)
        self._table = positions(rows, columns)

    def call(self, x: Any) -> Any:
        return x + ops.cast(self._table, x.dtype)


def _attention(x: Any, name: str) -> Any:
    """[n, patches, width] -> the same: each patch from all, by six heads (Vaswani et al. 2017, section 3.2).

    Keras' MultiHeadAttention has biases of two dimensions, [heads, size], which weight decay would not leave out.
    """
    shape, size = x.shape[1:], _WIDTH // _HEADS
    parts = [
        layers.Reshape((-1, _HEADS, size), name=f"{name}_{part}_heads")(_dense(x, _WIDTH, f"{name}_{part}"))
        for part in ("query", "key", "value")
    ]
    x = layers.Reshape(shape, name=f"{name}_joined")(ops.dot_product_attention(*parts))
    return _dense(x, _WIDTH, f"{name}_output")


def _mlp(x: Any, name: str) -> Any:
    """[n, patches, width] -> the same: each patch by itself, through a layer four times as wide."""
    bias = keras.initializers.RandomNormal
    x = _dense(x, _MLP, f"{name}_mlp1", bias(stddev=1e-6))
    x = layers.Activation(lambda x: ops.gelu(x, approximate=True), name=f"{name}_gelu")(x)
    return _dense(x, _WIDTH, f"{name}_mlp2", bias(stddev=1e-6))


def _dense(x: Any, width: int, name: str, bias: Any = "zeros") -> Any:
    return layers.Dense(width, kernel_initializer="glorot_uniform", bias_initializer=bias, name=name)(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)
