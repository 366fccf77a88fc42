"""--augment as one graph function of a batch."""

from __future__ import annotations

from collections.abc import Callable

from convoy import exits
from convoy.data.arrays import Images
from convoy.data.augment.geometry import move
from convoy.data.augment.names import AUGMENTATIONS, Stage
from convoy.data.augment.policy import policy
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges
from convoy.data.sampler import Sample

Change = Callable[[Images, PositionRanges, Sample], Images]


def augmenter(recipe: Recipe) -> Change:
    """Makes (images uint8 [n, h, w, c], their positions, what these show) -> images uint8 [n, h, w, c].

    An image is changed by random numbers keyed by (seed, its position), whatever else is in the batch. Colour comes first, a
    policy's too, so that all geometry can be one map, interpolated once; erasing comes last. Two stages are not here: a source
    reads only the part of an image that `resized` shows, and convoy.data.augment.mix makes pairs.
    """
    levels, last = _changes(recipe, Stage.LEVELS), _changes(recipe, Stage.LAST)

    def change(images: Images, positions: PositionRanges, sample: Sample) -> Images:
        _check_channels(recipe, images.shape[-1])
        for apply in levels:
            images = apply(images, positions)
        images, maps = policy(images, positions, recipe) if recipe.names_at(Stage.POLICY) else (images, None)
        images = move(images, positions, sample, recipe, maps)
        for apply in last:
            images = apply(images, positions)
        return images

    return change


def _changes(recipe: Recipe, stage: Stage) -> list[Callable[[Images, PositionRanges], Images]]:
    """The functions of a stage, with their numbers."""

    def bound(name: str) -> Callable[[Images, PositionRanges], Images]:
        function, numbers = AUGMENTATIONS.load(name), recipe.items[name]
        return lambda images, positions: function(images, positions, *numbers)

    return [bound(name) for name in recipe.names_at(stage)]


def _check_channels(recipe: Recipe, channels: int) -> None:
    needing = [name for name in recipe.items if AUGMENTATIONS[name].mixes_channels]
    if needing and channels not in (1, 3):
        raise exits.CannotRun(
            f"colour is changed of images of 1 or 3 channels, and these have {channels}; leave {' and '.join(needing)} out of"
            " --augment."
        )
