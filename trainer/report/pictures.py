"""The pictures of a page: examples that the measurement got wrong or was unsure of, and what --augment makes of training.

The run itself keeps them, in pictures.npz: it has the data set at hand, and a page can be written again without it.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convoy import exits
from convoy.trainer import figures
from convoy.trainer.checkpoints.archive import members
from convoy.trainer.checkpoints.snapshot import add_tensor
from convoy.trainer.logits import Logits

if TYPE_CHECKING:
    from convoy.data.opening import Splits

SIDE = 128  # pixels at most; the browser enlarges smaller ones
EACH = 12  # of the worst mistakes, and of the least certain examples
AUGMENTED = 8
MOST_BYTES = (1 << 13) + (2 * EACH + 2 * AUGMENTED) * (8 + 3 * SIDE * SIDE)
_LOSSLESS = 48  # pixels up to which JPEG would be larger, and ugly


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Small pictures of examples, with 1 or 3 channels.

    Attributes:
      index: int64 [K], rising, the places in the measured split.
      images: uint8 [K, h, w, c], what the network sees of them.
      originals: uint8 [A, h, w, c], of the first training examples of the run; none with --augment=none.
      augmented: uint8 [A, h, w, c], what the network saw of those.
    """

    index: np.ndarray
    images: np.ndarray
    originals: np.ndarray
    augmented: np.ndarray

    def to_bytes(self) -> bytes:
        """pictures.npz; equal pictures are equal bytes."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for field in dataclasses.fields(self):
                add_tensor(archive, field.name, np.ascontiguousarray(getattr(self, field.name)))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Pictures:
        """The inverse of to_bytes, of a file that anybody may have written; exits.BadData for anything else."""
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            tensors = members(data, names)
            for name, member in zip(names, tensors, strict=True):
                member.check_crc32(name)
            pictures = cls(*(member.value for member in tensors))
            _check(pictures)
        except ValueError as error:
            raise exits.BadData(f"{source}: the file {error}; remove it, and the page has no pictures.") from error
        return pictures

    def sources(self, indices: np.ndarray) -> list[str]:
        """The pictures of examples by their places, as data URIs; "" for those that were not kept."""
        rows = {int(index): row for row, index in enumerate(self.index)}
        return [data_uri(self.images[rows[index]]) if index in rows else "" for index in indices.tolist()]


def keep(data: Splits, logits: Logits, seed: int, batch_size: int = 0) -> Pictures:
    """The pictures of a run that was measured.

    Args:
      data: the run's examples; those of `data.final` were measured.
      logits: of the measurement.
      seed: of the run.
      batch_size: of the run; 0: of the pictures, which matters with --order=blocked:N alone.
    """
    import tensorflow as tf

    from convoy.data import preview

    rows = np.union1d(figures.worst(logits, EACH), figures.least_certain(logits, EACH))
    index = logits.index[rows]
    with tf.device("CPU:0"):
        images = np.asarray(data.final[1].fetcher()(tf.constant(index), None).images)
        originals = augmented = images[:0]
        if data.config.augment != "none":
            originals, batch = preview.pairs(data, min(AUGMENTED, len(data.train)), seed, batch_size)
            augmented = np.asarray(batch.images)
    return Pictures(index, *map(_reduced, (images, originals, augmented)))


def data_uri(image: np.ndarray) -> str:
    """uint8 [h, w, c] -> data:image/...;base64,..."""
    form = "png" if max(image.shape) <= _LOSSLESS else "jpeg"
    file = io.BytesIO()
    _pillow(image).save(file, form, quality=88)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"


def _pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])


def _reduced(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] -> the same with at most SIDE pixels a side and 1 or 3 channels: of others the first."""
    images = images[..., :3] if images.shape[-1] >= 3 else images[..., :1]
    height, width = images.shape[1:3]
    if max(height, width) <= SIDE:
        return images
    scale = SIDE / max(height, width)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = [np.asarray(_pillow(image).resize(size, Image.Resampling.BOX)) for image in images]
    return np.stack(small).reshape(len(images), size[1], size[0], -1) if small else images[:, :1, :1]


def _check(pictures: Pictures) -> None:
    """ValueError for arrays that no run keeps."""
    index, arrays = pictures.index, (pictures.images, pictures.originals, pictures.augmented)
    if index.dtype != np.int64 or any(array.dtype != np.uint8 for array in arrays):
        raise ValueError("holds numbers of another type than pictures have")
    images, originals, augmented = (array.shape for array in arrays)
    if not all(map(_is_small, (images, originals, augmented))):
        raise ValueError("holds no small pictures")
    if index.shape != images[:1] or len(index) > 2 * EACH or originals != augmented or originals[0] > AUGMENTED:
        raise ValueError("holds another number of pictures than a run keeps")


def _is_small(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and 0 < shape[1] <= SIDE and 0 < shape[2] <= SIDE and shape[3] in (1, 3)
