"""--cache_features: what a frozen backbone makes of each image is computed once, and steps train the head on that.

Positions, order, checkpoints and counts are those of the same run without it, and numbers are equal up to rounding. Where
--unfreeze releases the backbone, steps see images from its border on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from convoy import exits
from convoy.data.opening import Splits
from convoy.data.sources.examples import Examples
from convoy.data.sources.in_memory import Features
from convoy.trainer.engines.protocol import Engine


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """The features of a run's examples.

    Attributes:
      border: the first step that needs images, or None.
      train, held_out: the features of the examples that have these uses.
    """

    border: int | None
    train: Examples
    held_out: Examples | None

    def trains(self, step: int) -> bool:
        """Whether a step trains on features."""
        return self.border is None or step < self.border

    def evaluates(self, step: int) -> bool:
        """Whether the features are still those of the weights after so many steps."""
        return self.border is None or step <= self.border


def compute(engine: Engine, data: Splits, step: int, say: Callable[[str], None]) -> FeatureCache | None:
    """Computes the features of the examples to train on and of those that are held out, with the engine's weights.

    Args:
      engine: it has the weights that the run goes on with.
      data: the examples.
      step: the next one; None is returned where it and all later ones need images.
      say: is told what it took.

    Raises:
      exits.CannotRun: the backbone trains, or --cache_bytes has no room.
      exits.BadData: an image cannot be read, and --bad_images does not allow that.
    """
    border = engine.features_until
    if border is not None and step > border:
        return None
    parts = [data.train] + ([data.held_out] if data.held_out is not None else [])
    _check_bytes(data, sum(map(len, parts)) * engine.feature_bytes)
    begun = time.perf_counter()
    substitutes = data.config.bad_images == "substitute"
    cached = [
        Features(features, examples.labels, None, examples.unreadable(), substitutes)
        for features, examples in zip(engine.features(parts), parts, strict=True)
    ]
    took, size = time.perf_counter() - begun, sum(features.images.nbytes for features in cached)
    say(f"features of {sum(map(len, parts)):,} images: {size / 2**20:,.1f} MiB, computed in {took:.1f} s")
    return FeatureCache(border, cached[0], cached[1] if len(cached) > 1 else None)


def _check_bytes(data: Splits, needed: int) -> None:
    allowed = data.config.cache_bytes
    if needed > allowed:
        raise exits.CannotRun(
            f"--cache_features needs {needed:,} bytes for the features, and --cache_bytes={allowed:,} allows less; give"
            f" --cache_bytes={needed}, or leave --cache_features out."
        )
