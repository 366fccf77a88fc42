"""A run's model that is asked about a file at a time, by any thread, and takes milliseconds for it."""

from __future__ import annotations

import io
import queue
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from convoy.data import arrays
from convoy.data.images.listing import ImageFile
from convoy.trainer.experiment import OpenedRun
from convoy.trainer.predict import predict_with_images
from convoy.trainer.predictions import Prediction


class Model:
    """Reads a file and predicts it, as `convoy predict --batch_size=1` does. Use as a context.

    The graphs of decoders and network take a second to build, and are kept: files go into a queue, and their predictions come
    out of a stream as those of a long list would. Calls wait for each other.

    Args:
      opened: the run.
      top: how many classes to name.
      tta: that of trainer.predict.

    Raises:
      exits.CannotRun: the run's images are no pictures. One prediction is made, of black.
    """

    _files: queue.SimpleQueue[ImageFile | None]

    def __init__(self, opened: OpenedRun, top: int, tta: bool) -> None:
        self._opened, self._top, self._tta = opened, top, tta
        self._lock = threading.Lock()
        self._stream = self._begin()
        height, width, _ = opened.image_shape
        with tempfile.TemporaryFile() as file:
            file.write(png(np.zeros((height, width, 1), np.uint8)))
            self(file)

    def __call__(self, file: BinaryIO) -> tuple[Prediction, arrays.Image | None]:
        """What the model says of an open file, and what it was shown: uint8 [h, w, c]; None of what cannot be read."""
        file.flush()
        with self._lock:
            self._files.put(ImageFile(f"/dev/fd/{file.fileno()}"))
            try:
                return next(self._stream)
            except Exception:  # which ends a stream
                self.close()
                self._stream = self._begin()
                raise

    def _begin(self) -> Iterator[tuple[Prediction, arrays.Image | None]]:
        self._files = queue.SimpleQueue()
        return predict_with_images(self._opened, iter(self._files.get, None), self._top, 1, self._tta)

    def close(self) -> None:
        """Ends the thread that waits for files."""
        self._files.put(None)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def png(image: arrays.Image) -> bytes:
    """A PNG file of an image, uint8 [h, w, 1 or 3]."""
    content = io.BytesIO()
    pixels = np.asarray(image)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, "PNG")
    return content.getvalue()
