"""--tta: the mean of the probabilities of several views of each image."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from convoy import exits
from convoy.data.sources.changed import Changed
from convoy.trainer import paired
from convoy.trainer.evaluations.measuring import Measuring, Outcome, accuracy, interval
from convoy.trainer.evaluations.names import VIEWS
from convoy.trainer.logits import Logits
from convoy.trainer.paired import Guesses

# uint8 [n, h, w, c] -> the same
View = Callable[[np.ndarray], np.ndarray]


def measure(measuring: Measuring, name: str) -> Outcome:
    """Measures each view, and the mean of their probabilities."""
    if measuring.logits.shortened:
        raise exits.CannotRun(
            f"--tta needs all logits, and of {measuring.classes:,} classes only the largest are kept; leave it out."
        )
    views = VIEWS.load(name)()
    more = [measuring.measure(Changed(measuring.examples, _on_images(view))) for view in views]
    logits = mean([measuring.logits, *more])
    values = {"views": len(more) + 1, **accuracy(logits), "loss": float(logits.losses.mean())}
    lines = [
        f"with the mean over {values['views']} views ({name}): {values['accuracy']:.2%} ({interval(*values['interval'])}),"
        f" loss {values['loss']:.4f}"
    ]
    if difference := paired.difference(Guesses.of_logits(logits), Guesses.of_logits(measuring.logits)):
        values["difference"] = difference._asdict()
        lines.append(
            f"  {difference.value:+.2%} ({interval(difference.low, difference.high)}), p = {difference.p:.2g} by McNemar's test"
        )
    return Outcome(values, lines)


def mean(logits: Sequence[Logits]) -> Logits:
    """The logarithms of the mean probabilities, as logits."""
    every = [each.logits.astype(np.float64) - each.log_sum[:, None] for each in logits]
    return dataclasses.replace(logits[0], logits=np.logaddexp.reduce(every) - np.log(len(every)))


def flipped() -> list[View]:
    """The mirror image."""
    return [_mirror]


def shifted() -> list[View]:
    """Four images, each shifted by a sixteenth of its side, at least a pixel; what comes in repeats the edge."""
    return [functools.partial(_shift, axis=axis, sign=sign) for axis in (1, 2) for sign in (-1, 1)]


def flipped_and_shifted() -> list[View]:
    """All of these, and the mirror images of the shifted ones."""

    def mirrored(view: View) -> View:
        return lambda images: _mirror(view(images))

    return [*flipped(), *shifted(), *map(mirrored, shifted())]


def _mirror(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[:, :, ::-1])


def _shift(images: np.ndarray, axis: int, sign: int) -> np.ndarray:
    size = images.shape[axis]
    places = np.clip(np.arange(size) - sign * max(1, size // 16), 0, size - 1)
    return np.take(images, places, axis=axis)


def _on_images(view: View) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda images, _: view(images)
