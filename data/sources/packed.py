"""The examples of packed records: pixels, read a batch at a time, and image files, decoded as those of a folder are."""

from __future__ import annotations

import copy
import functools
from typing import TypeVar

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data import memory
from convoy.data.arrays import Array, Indices, Scalar
from convoy.data.images.crop_geometry import NUMBERS
from convoy.data.images.probe import probe
from convoy.data.images.resize import resize_and_crop
from convoy.data.images.unreadable import TRIES, BadImages
from convoy.data.images.view import View
from convoy.data.order import PositionRanges
from convoy.data.parallel import in_parallel
from convoy.data.records.format import Shards
from convoy.data.records.manifest import CorruptRecords
from convoy.data.records.streamed import StreamedShards
from convoy.data.schedule import Schedule
from convoy.data.sources.catalogue import ENTRY, header_of
from convoy.data.sources.examples import Fetched, Fetcher
from convoy.data.sources.files import Files
from convoy.data.sources.in_memory import InMemory, random_parts

REMEDY = "give the same `convoy data pack` again, which packs anew what is damaged"
_AT_ONCE = 256  # images of one call while a split is read into memory


class PackedFiles(Files):
    """N packed image files. See convoy.data.sources.files.Files."""

    def __init__(
        self,
        split: str,
        shards: Shards | StreamedShards,
        rows: np.ndarray,
        shape: tuple[int, int, int],
        view: View,
        cache_bytes: int,
        bad: BadImages,
    ):
        index = shards.index[rows]
        headers = np.zeros(len(rows), ENTRY)
        headers["orientation"] = 1
        for name in ("kind", "height", "width"):
            headers[name] = index[name]
        paths, hashes = shards.names(rows), index["content_hash"]
        super().__init__(split, paths, index["label"], headers, hashes, shape, view, cache_bytes, bad)
        self._shards, self._rows, self._watch = shards, rows, None  # records have checksums

    def fetcher(self, min_area: float = 0) -> Fetcher:
        return _awaiting(self._shards, self._rows, super().fetcher(min_area))

    def along(self, schedule: Schedule) -> PackedFiles:
        return _along(self, schedule)

    def _suspects(self) -> np.ndarray:
        return self._shards.suspects(self._rows)

    def select(self, indices: np.ndarray) -> PackedFiles:
        rows = self._rows[indices]
        how = self.shape, self.view, self.cache_bytes, self.bad
        return PackedFiles(self.split, self._shards.select(rows), rows, *how)

    def _places(self, indices: Array) -> Array:
        return indices

    def _contents(self, place: Scalar) -> Scalar:
        return tf.ensure_shape(tf.numpy_function(self._content, [place], tf.string, stateful=False), [])

    def _content(self, row: int) -> bytes:
        content, indexed = self._shards.images(self._rows[row : row + 1])[0], header_of(self.headers[row])
        if (header := probe(content))[:3] != indexed[:3]:
            # Else a few bytes might be decoded to gigabytes.
            what = header.reason or f"it is a {header.kind.name} of {header.width}x{header.height} pixels"
            raise CorruptRecords(
                f"{self.paths[row]} is not what the index says, a {indexed.kind.name} of"
                f" {indexed.width}x{indexed.height}: {what}"
            )
        return content

    def _examine(self, row: int) -> None:
        try:
            self._content(row)
        except CorruptRecords as error:
            self.bad.add(self.split, self.paths[row], str(error).removeprefix(f"{self.paths[row]} "))
        else:
            super()._examine(row)


class PackedPixels:
    """N packed images of one shape, as pixels. See convoy.data.sources.examples.Examples.

    Args:
      split: its name in a list of bad images.
      shards: of the split.
      rows: of its index, int64 [N].
      shape: (height, width, channels) of the images given.
      view: what is shown of each.
      cache_bytes: read into memory if they need no more than this.
      bad: what to do about records that cannot be read.
    """

    def __init__(
        self,
        split: str,
        shards: Shards | StreamedShards,
        rows: np.ndarray,
        shape: tuple[int, int, int],
        view: View,
        cache_bytes: int,
        bad: BadImages,
    ):
        self.split, self.shape, self.view, self.cache_bytes, self.bad = split, shape, view, cache_bytes, bad
        self.labels = shards.index["label"][rows].astype(np.int32)
        self._shards, self._rows = shards, rows
        self._packed = (*shards.index[["height", "width"]][0].tolist(), shape[2])
        self._cached: InMemory | None = None
        self._unreadable: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all images in memory."""
        return len(self) * int(np.prod(self.shape))

    def fetcher(self, min_area: float = 0) -> Fetcher:
        if self.decoded_bytes <= self.cache_bytes:
            return self._in_memory().fetcher(min_area)

        def fetch(indices: Indices, positions: PositionRanges | None) -> Fetched:
            substitutes = bool(positions) and self.bad.policy == "substitute"
            images, shown = self._images(indices, TRIES if substitutes else 0)
            if positions and min_area:
                images = random_parts(images, positions.uniforms(NUMBERS, "resized"), min_area)
            valid = tf.cast(shown >= 0, tf.float32)
            return Fetched(images, valid, tf.where(shown >= 0, shown, indices) if substitutes else indices)

        return _awaiting(self._shards, self._rows, fetch)

    def unreadable(self) -> np.ndarray:
        if self.decoded_bytes <= self.cache_bytes:
            return self._in_memory().unreadable()
        if self._unreadable is None:
            rows = [] if self.bad.policy == "fail" else range(len(self))
            self._unreadable = np.array([row for row in rows if self._content(row) is None], np.int64)
            self.bad.check()
        return self._unreadable

    def content_hashes(self) -> np.ndarray:
        return self._shards.index["content_hash"][self._rows]

    def select(self, indices: np.ndarray) -> PackedPixels:
        rows = self._rows[indices]
        how = self.shape, self.view, self.cache_bytes, self.bad
        return PackedPixels(self.split, self._shards.select(rows), rows, *how)

    def along(self, schedule: Schedule) -> PackedPixels:
        return _along(self, schedule)

    def explain(self) -> str:
        for row in self._shards.suspects(self._rows).tolist() if self.bad.policy == "fail" else ():
            if self._content(row) is None:
                break
        return self.bad.verdict()

    def _in_memory(self) -> InMemory:
        if self._cached is None:
            what = f"the decoded images of the split {self.split}"
            memory.check("cache_bytes", self.cache_bytes, what, self.decoded_bytes)
            images, places = np.zeros((len(self), *self.shape), np.uint8), list[int]()
            stream = in_parallel(
                tf.data.Dataset.range(len(self)).batch(_AT_ONCE), lambda indices: self._images(indices, 0)
            )
            try:
                for batch, shown in stream.as_numpy_iterator():
                    images[len(places) : len(places) + len(batch)] = batch
                    places += shown.tolist()
            except tf.errors.OpError as error:
                raise exits.BadData(self.explain() or str(error)) from error
            unreadable = np.flatnonzero(np.array(places) < 0)
            substitutes = self.bad.policy == "substitute"
            self._cached = InMemory(images, self.labels, self.content_hashes(), unreadable, substitutes)
        return self._cached

    def _images(self, indices: Indices, tries: int) -> tuple[Array, Array]:
        """(images, the indices of what they show, or -1): of those that can be read, or of one of `tries` after them."""
        read = functools.partial(self._read, tries)
        contents, shown = tf.numpy_function(read, [indices], (tf.string, tf.int64), stateful=False)
        images = tf.reshape(tf.io.decode_raw(contents, tf.uint8), [-1, *self._packed])
        if self._packed != self.shape or self.view.fraction != 1:
            shape = tf.TensorSpec(self.shape, tf.uint8)
            crop = functools.partial(resize_and_crop, view=self.view)
            images = tf.map_fn(crop, images, fn_output_signature=shape)
        return tf.ensure_shape(images, [*indices.shape, *self.shape]), tf.ensure_shape(shown, indices.shape)

    def _read(self, tries: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return np.array(self._shards.images(self._rows[indices]), object), indices
        except CorruptRecords:
            if self.bad.policy == "fail":
                raise
        readable = [self._first(index, tries) for index in indices.tolist()]
        self.bad.check()
        contents, shown = zip(*readable, strict=True)
        return np.array(contents, object), np.array(shown, np.int64)

    def _first(self, index: int, tries: int) -> tuple[bytes, int]:
        """The content of the first record from `index` on that can be read, and its index; zeros and -1 if none can."""
        for place in range(index, index + tries + 1):
            if (content := self._content(place % len(self))) is not None:
                return content, place % len(self)
        return bytes(int(np.prod(self._packed))), -1

    def _content(self, index: int) -> bytes | None:
        row = self._rows[index : index + 1]
        try:
            return self._shards.images(row)[0]
        except CorruptRecords as error:
            name = self._shards.names(row)[0]
            self.bad.add(self.split, name, str(error).removeprefix(f"{name} "))
            return None


_P = TypeVar("_P", PackedFiles, PackedPixels)


def _along(examples: _P, schedule: Schedule) -> _P:
    """The same examples, read along a schedule if they come from a bucket."""
    if isinstance(examples._shards, StreamedShards):
        shards, examples = examples._shards, copy.copy(examples)
        examples._shards = shards.along(schedule, examples._rows)
    return examples


def _awaiting(shards: Shards | StreamedShards, rows: np.ndarray, fetch: Fetcher) -> Fetcher:
    """A fetcher that says beforehand what it will read, where that comes from a bucket."""
    if isinstance(shards, Shards):
        return fetch

    def announce(indices: np.ndarray, *positions: np.ndarray) -> np.ndarray:
        shards.wait(rows[indices], *positions or (None,))
        return indices

    def fetch_after(indices: Indices, positions: PositionRanges | None) -> Fetched:
        inputs = [indices, positions.positions] if positions else [indices]
        # Not stateful: --deterministic would have one batch made at a time then.
        announced = tf.numpy_function(announce, inputs, tf.int64, stateful=False)
        return fetch(tf.ensure_shape(announced, indices.shape), positions)

    return fetch_after
