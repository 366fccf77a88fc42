"""--augment as one graph function of a batch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from convoy import exits
from convoy.data.augment.color import jitter
from convoy.data.augment.erase import erase
from convoy.data.augment.geometry import crop_and_flip, flips, maps, warp
from convoy.data.augment.policy import compose, policy
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges
from convoy.data.sampler import Sample

Change = Callable[[tf.Tensor, PositionRanges, Sample], tf.Tensor]


def augmenter(recipe: Recipe) -> Change:
    """(images uint8 [n, h, w, c], their positions, what these show) -> images uint8 [n, h, w, c].

    An image is changed by random numbers keyed by (seed, its position), whatever else is in the batch: colour; then crop and
    flip, in whole pixels; then the recipe's and the policy's maps, as one; then erasing. Colour comes first, a policy's
    too, so that whatever moves pixels between them can be one map, interpolated once.
    """

    def change(images: tf.Tensor, positions: PositionRanges, drawn: Sample) -> tf.Tensor:
        moves = []
        if (recipe.color or recipe.has_policy) and images.shape[-1] not in (1, 3):
            raise exits.CannotRun(
                f"colour is changed of images of 1 or 3 channels, and these have {images.shape[-1]}; leave color,"
                " randaugment and trivial out of --augment."
            )
        if recipe.color:
            images = jitter(images, positions.uniforms(4, "color"), recipe.color)
        if recipe.has_policy:
            images, drawn_map = policy(images, positions, recipe)
            moves.append(drawn_map)
        if recipe.crop or recipe.mirrors or recipe.maps:
            numbers = positions.uniforms(8, "augment")
            mirrored = flips(numbers, drawn, positions.seed, recipe)
            if recipe.crop or not (recipe.maps or moves):
                images = crop_and_flip(images, numbers, mirrored, bool(recipe.crop))
                mirrored = tf.zeros_like(mirrored)
            if recipe.maps or moves:
                moves.insert(0, maps(numbers, mirrored, recipe, images.shape))
        if moves:
            images = warp(images, moves[0] if len(moves) == 1 else compose(*moves))
        return erase(images, positions, recipe.erase) if recipe.erase else images

    return change
