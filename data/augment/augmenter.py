"""--augment as one graph function of a batch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from data.augment.geometry import crop_and_flip, flips, maps, warp
from data.augment.recipe import Recipe
from data.balance import Drawn
from data.order import Stretches

Change = Callable[[tf.Tensor, Stretches, Drawn], tf.Tensor]


def augmenter(recipe: Recipe) -> Change:
    """(images uint8 [n, h, w, c], their positions, what these show) -> images uint8 [n, h, w, c].

    An image is changed by random numbers keyed by (seed, its position), whatever else is in the batch. Colour comes first,
    then all geometry at once, then erasing.
    """

    def change(images: tf.Tensor, positions: Stretches, drawn: Drawn) -> tf.Tensor:
        numbers = positions.uniforms(8, "augment")
        mirrored = flips(numbers, drawn, positions.seed, recipe)
        if recipe.warps:
            return warp(images, maps(numbers, mirrored, recipe, images.shape))
        if recipe.crop or recipe.flip or recipe.altflip:
            return crop_and_flip(images, numbers, mirrored, recipe.crop)
        return images

    return change
