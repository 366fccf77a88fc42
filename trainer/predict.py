"""What a run's model says of files, without the run's data set. `convoy predict` says how that is asked for."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

import numpy as np
from rich.console import Console

from convoy import destination, exits, streams, terminal
from convoy.data import memory
from convoy.data.arrays import Image
from convoy.data.images.listing import ImageFile
from convoy.data.unlabelled import CHANNELS, images_shown
from convoy.trainer import engines
from convoy.trainer.experiment import OpenedRun, open_run
from convoy.trainer.flags.prediction import PredictConfig
from convoy.trainer.outputs import predicted
from convoy.trainer.predictions import Guess, Prediction, csv_head


def predict(
    opened: OpenedRun, files: Iterable[ImageFile], top: int, batch_size: int, tta: bool
) -> Iterator[Prediction]:
    """What `predict_with_images` yields, without the images."""
    return (prediction for prediction, _ in predict_with_images(opened, files, top, batch_size, tta))


def predict_with_images(
    opened: OpenedRun, files: Iterable[ImageFile], top: int, batch_size: int, tta: bool
) -> Iterator[tuple[Prediction, Image | None]]:
    """A prediction for each file, in order, also for those that cannot be read. Holds a few batches at a time.

    Args:
      opened: the run.
      files: as they are listed.
      top: how many classes of each; all, if there are fewer.
      batch_size: images of a call of the model. The last batch is filled up, so that there is one program.
      tta: average the probabilities of an image and of its mirror image.

    Yields:
      The prediction, and what the model is shown: uint8 [h, w, c]; None of a file that cannot be read.

    Raises:
      exits.CannotRun: the run's images are no pictures, a batch is too large, or a folder cannot be listed.
    """
    shape, names = opened.image_shape, opened.class_names
    if shape[2] not in CHANNELS:
        raise exits.CannotRun(
            f"the images of the run in {opened.config.run_dir} have {shape[2]} channels, and files give 1 or 3; name a run on"
            " pictures."
        )
    memory.check("batch_size", batch_size, "the images of a batch", 4 * batch_size * math.prod(shape))
    forward = engines.choose(opened.config.backend).forward(opened.model)
    probabilities = probabilities_by(_refusing(forward, batch_size), tta)
    for batch in images_shown(files, shape, opened.preprocessing.view, batch_size):
        said = dict[int, tuple[Guess, ...]]()
        rows = batch.rows[batch.rows >= 0].tolist()
        if rows:
            for row, likely in zip(rows, probabilities(batch.images), strict=False):
                said[row] = _best(likely, names, top)
        images = dict(zip(rows, batch.images, strict=False))
        for row, file in enumerate(batch.files):
            if not file.reason and not said[row]:
                file = file._replace(reason="cannot be classified: the model returns no finite numbers for it")
            yield Prediction(file.path, () if file.reason else said[row], file.reason), images.get(row)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Floats [n, classes] -> probabilities, float64 [n, classes]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)


def probabilities_by(forward: Callable[[np.ndarray], np.ndarray], tta: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function: images, uint8 [n, h, w, c] -> float64 [n, classes]; NaN where a logit is not finite."""

    def probabilities(images: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return softmax(forward(images))

    if not tta:
        return probabilities
    return lambda images: (probabilities(images) + probabilities(np.ascontiguousarray(images[:, :, ::-1]))) / 2


def _best(probabilities: np.ndarray, names: tuple[str, ...], top: int) -> tuple[Guess, ...]:
    """The most probable classes, of equal ones the first; none where the numbers are not finite."""
    if not np.isfinite(probabilities).all():
        return ()
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(Guess(names[index], index, float(probabilities[index])) for index in order.tolist())


def _refusing(forward: Callable[[np.ndarray], np.ndarray], batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """The same function, which says in a sentence that the device's memory is too small."""

    def logits(images: np.ndarray) -> np.ndarray:
        try:
            return forward(images)
        except Exception as error:
            # Of TensorFlow and of JAX.
            if type(error).__name__ != "ResourceExhaustedError" and not str(error).startswith("RESOURCE_EXHAUSTED"):
                raise
            raise exits.CannotRun(f"out of memory with --batch_size={batch_size}; give a smaller one.") from error

    return logits


def predict_and_print(config: PredictConfig, files: Iterable[ImageFile], total: int) -> int:
    """Does what `convoy predict` asks for, and returns its exit code.

    Args:
      config: the flags.
      files: as they are listed.
      total: how many there are.

    Raises:
      exits.BadData: no file could be read, or what stands in the run directory is damaged.
      exits.CannotRun: see `predict` and `open_run`.
    """
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # code of a user's model may print
        opened = open_run(config.run_dir, config.checkpoint, config.backend, config.model, config.trust_model_code)
        predictions = predict(opened, files, config.top, config.batch_size, config.tta)
        console = Console(file=terminal.unguarded(out), highlight=False, emoji=False)
        unread = predicted.Unread()
        bar = console.is_terminal and (bool(config.out) or not (config.json or config.csv))
        with (
            _adding(config, out, console, len(opened.class_names)) as add,
            contextlib.closing(predicted.watched(predictions, total, console, bar)) as seen,
        ):
            for prediction in seen:
                unread.count(prediction)
                add(prediction)
                if not config.out and not streams.is_read():
                    break
    if unread.unread == unread.files:
        raise exits.BadData(unread.sentence())
    if sentence := unread.sentence():
        print(f"convoy: {sentence}", file=sys.stderr)
    return exits.OK


@contextlib.contextmanager
def _adding(config: PredictConfig, out: TextIO, console: Console, classes: int) -> Iterator[predicted.Add]:
    """Where predictions go: a function for them, in the form that is asked for."""
    if not (config.json or config.csv):
        with predicted.tables(console) as add:
            yield add
        return
    top = min(config.top, classes)
    form = (Prediction.to_json, "") if config.json else (lambda prediction: prediction.to_csv(top), csv_head(top))
    if not config.out:
        with predicted.lines(out, *form) as add:
            yield add
        return
    try:
        # Names of files need not be valid UTF-8.
        with (
            open(config.out, "w", encoding="utf-8", errors="surrogateescape") as file,
            predicted.lines(file, *form) as add,
        ):
            yield add
    except OSError as error:
        raise destination.refusal("out", config.out, exits.reason(error)) from error
