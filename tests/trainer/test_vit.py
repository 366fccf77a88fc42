"""ViT-S/16 against NumPy, its first weights, and its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.models import blocks
from convoy.trainer.models.build import build_model
from convoy.trainer.models.names import rules_of
from convoy.trainer.models.vit import positions

pytestmark = pytest.mark.slow  # Keras, and networks of its own

SIDE, WIDTH, HEADS, DEPTH = 32, 384, 6, 2  # 2 x 2 patches


@pytest.fixture(scope="module")
def vit() -> Iterator[keras.Model]:
    """With two of its twelve blocks; test_zoo.py counts all."""
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convoy.trainer.models.vit._DEPTH", DEPTH)
        yield build_model("vit_s16", (SIDE, SIDE, 3), 10)


def by_hand(images: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of images [n, 32, 32, 3], in float64."""

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * weights[f"{name}/gamma"]
            + weights[f"{name}/beta"]
        )

    def heads(x):
        return x.reshape(len(x), -1, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)

    def attention(x, name):
        query, key, value = (heads(dense(x, f"{name}_{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(WIDTH // HEADS)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return dense((shares @ value).transpose(0, 2, 1, 3).reshape(x.shape), f"{name}_output")

    def mlp(x, name):
        x = dense(x, f"{name}_mlp1")
        return dense(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), f"{name}_mlp2")

    patches = (2 * images - 1).reshape(-1, 2, 16, 2, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4, 768)
    x = patches @ weights["embedding/kernel"].reshape(768, WIDTH) + weights["embedding/bias"] + positions(2, 2)
    for block in range(1, DEPTH + 1):
        name = f"block{block}"
        x = x + attention(norm(x, f"{name}_norm1"), name)
        x = x + mlp(norm(x, f"{name}_norm2"), name)
    return dense(norm(x, "encoder_norm").mean(1), "logits")


def test_logits_are_those_computed_by_hand(vit):
    generator = np.random.default_rng(1)
    for variable in vit.trainable_variables:
        if len(variable.shape) < 2 or variable.path == "logits/kernel":  # zeros and ones would hide mistakes
            variable.assign(variable + generator.normal(0, 0.1, variable.shape))
    weights = {variable.path: np.asarray(variable, np.float64) for variable in vit.trainable_variables}
    images = generator.random((2, SIDE, SIDE, 3), np.float32)
    expected = by_hand(images.astype(np.float64), weights)
    np.testing.assert_allclose(vit(images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_positions_are_waves_of_column_and_row():
    table = positions(3, 5).reshape(3, 5, 4, 96)
    sines, cosines = table[..., ::2, :], table[..., 1::2, :]
    np.testing.assert_allclose(sines**2 + cosines**2, 1, rtol=1e-5)
    np.testing.assert_allclose(table[2, 4, :, 0], [math.sin(4), math.cos(4), math.sin(2), math.cos(2)], rtol=1e-5)
    np.testing.assert_allclose(table[2, 4, 0, -1], math.sin(4 / 10_000), rtol=1e-5)


def test_first_weights_are_big_visions(vit):
    """Glorot over the matrix of all heads; LeCun for the patches."""
    weights = {variable.path: np.asarray(variable) for variable in vit.trainable_variables}
    for name, fans in (("block2_query", 2 * WIDTH), ("block2_mlp1", 5 * WIDTH)):
        assert weights[f"{name}/kernel"].std() == pytest.approx(math.sqrt(2 / fans), rel=0.02)
    assert weights["embedding/kernel"].std() == pytest.approx(math.sqrt(1 / 768), rel=0.02)
    assert all(len(weights[path].shape) == 1 for path in weights if path.endswith("bias")), (
        "weight decay leaves these out"
    )


def test_blocks_are_counted_from_the_patches_to_the_head(vit):
    depths = blocks.depths([variable.path for variable in vit.weights], rules_of("vit_s16"))
    expected = {"embedding/bias": 0, "block1_query/kernel": 1, "block2_mlp2/bias": 2, "encoder_norm/beta": 2}
    assert {path: depths[path] for path in expected} == expected
    assert depths["logits/kernel"] == 3


def test_images_that_no_square_divides_are_refused():
    with pytest.raises(
        exits.CannotRun, match="squares of 16 pixels, and these have 40x32; give an --image_size that 16"
    ):
        build_model("vit_s16", (32, 40, 3), 10)
