"""--cache_features: what a frozen backbone makes of each image is computed once, and steps train the head on that.

Positions, order, checkpoints and counts are those of the same run without it, and numbers are equal up to rounding. Where
--unfreeze releases the backbone, steps see images from its border on. With --data_dir the features are kept there, in a file
for each use of the images, for the next run with the same backbone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data.opening import Splits
from convoy.data.sources.examples import Examples
from convoy.data.sources.files import Files
from convoy.data.sources.in_memory import Features
from convoy.outside import open_file
from convoy.trainer.engines.protocol import Engine

_FOLDER = "features"  # below --data_dir


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


def check_bytes(engine: Engine, data: Splits) -> None:
    """CannotRun, with the size that is needed, if --cache_bytes has no room for the features."""
    needed, allowed = sum(map(len, _uses(data).values())) * engine.feature_bytes, data.config.cache_bytes
    if needed > allowed:
        raise exits.CannotRun(
            f"--cache_features needs {needed:,} bytes for the features, and --cache_bytes={allowed:,} allows less; give"
            f" --cache_bytes={needed}, or leave --cache_features out."
        )


def compute(engine: Engine, data: Splits, step: int, say: Callable[[str], None]) -> FeatureCache | None:
    """The features of the examples to train on and of those that are held out, with the engine's weights.

    Args:
      engine: it has the weights that the run goes on with.
      data: the examples.
      step: the next one; None is returned where it and all later ones need images.
      say: is told what it took.

    Raises:
      exits.BadData: an image cannot be read, and --bad_images does not allow that.
    """
    border = engine.features_until
    if border is not None and step > border:
        return None
    begun, uses = time.perf_counter(), _uses(data)
    places = _places(engine, data) if data.config.data_dir else {}
    kept = {use: loaded for use, place in places.items() if (loaded := _load(place, uses[use], engine)) is not None}
    missing = {
        use: _forgetful(examples) if border is None else examples for use, examples in uses.items() if use not in kept
    }
    computed = dict(zip(missing, engine.features(list(missing.values())) if missing else [], strict=True))
    cached = {}
    for use, examples in uses.items():
        unreadable = missing[use].unreadable() if use in missing else np.zeros(0, np.int64)
        cached[use] = Features(
            (kept | computed)[use], examples.labels, None, unreadable, data.config.bad_images == "substitute"
        )
        if use in missing and use in places and not len(unreadable):
            _keep(places[use], computed[use], say)
    size, seconds = sum(features.images.nbytes for features in cached.values()), time.perf_counter() - begun
    how = "computed" if computed else f"read from {next(iter(places.values())).parent}"
    say(
        f"features of {counted(sum(map(len, uses.values())), 'image')}: {size / 2**20:,.1f} MiB, {how} in {seconds:.1f} s"
    )
    return FeatureCache(border, cached["train"], cached.get("held_out"))


def _uses(data: Splits) -> dict[str, Examples]:
    return {"train": data.train} | ({} if data.held_out is None else {"held_out": data.held_out})


def _forgetful(examples: Examples) -> Examples:
    """The same examples, without keeping in memory what is decoded of files."""
    return examples.select(np.arange(len(examples))) if isinstance(examples, Files) else examples


def _places(engine: Engine, data: Splits) -> dict[str, Path]:
    """Use -> the file of its features, whose name is a digest of all that they depend on."""
    config, origin = data.config, data.dataset.origin
    places = {}
    for use, examples in _uses(data).items():
        facts = [
            use,
            len(examples),
            list(examples.shape),
            config.eval_split,
            config.group,
            *config.view,
        ]
        digest = hashlib.blake2b(json.dumps([engine.backbone_digest(), dataclasses.asdict(origin), facts]).encode())
        digest.update(examples.labels.tobytes())
        if isinstance(examples, Files):  # an image may have been replaced by another of its size
            digest.update(np.stack([examples.headers["size"], examples.headers["changed"]]).tobytes())
        places[use] = Path(os.path.expanduser(config.data_dir)) / _FOLDER / f"{digest.hexdigest()[:40]}.npy"  # noqa: PTH111
    return places


def _load(place: Path, examples: Examples, engine: Engine) -> np.ndarray | None:
    """Features that were kept; None if there are none, or the file does not hold so many."""
    with contextlib.suppress(Exception), open_file(place) as file:  # of a damaged header NumPy's parser raises anything
        if np.lib.format.read_magic(file) == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            wanted = (len(examples), engine.feature_bytes // dtype.itemsize)
            if shape == wanted and dtype.kind == "f" and not is_fortran:
                return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
    return None


def _keep(place: Path, features: np.ndarray, say: Callable[[str], None]) -> None:
    """Writes a file, whole or not at all; what cannot be written is said, and computed again by the next run."""
    partial = place.with_suffix(f".{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                np.save(file, features)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        say(f"Note: the features cannot be kept in {place.parent}: {exits.reason(error)}.")
