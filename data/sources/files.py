"""Examples in image files: decoded once into memory where they fit, else as they are drawn."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data import memory
from convoy.data.arrays import Array, Image, Indices, Scalar, Uniforms, Valid
from convoy.data.images import decode
from convoy.data.images.crop_geometry import NUMBERS, centre_windows, random_windows
from convoy.data.images.decoders import choose
from convoy.data.images.plans import Plan, plan
from convoy.data.images.probe import Kind, look
from convoy.data.images.unreadable import TRIES, BadImages
from convoy.data.images.view import View
from convoy.data.order import PositionRanges
from convoy.data.parallel import in_parallel
from convoy.data.rows import map_rows
from convoy.data.sources.examples import Fetched, Fetcher
from convoy.data.sources.in_memory import InMemory
from convoy.data.sources.watch import Watch


class Files:
    """N image files. See convoy.data.sources.examples.Examples.

    Args:
      split: its name in a list of bad images.
      paths: the files.
      labels: a class index each.
      headers: of each, convoy.data.sources.catalogue.ENTRY [N].
      hashes: of their contents, float64 [N], if they are known.
      shape: (height, width, channels) that every decoded image has.
      view: what is shown of each.
      cache_bytes: decode into memory if they need no more than this.
      bad: what to do about files that cannot be read.
    """

    def __init__(
        self,
        split: str,
        paths: Sequence[str],
        labels: Sequence[int],
        headers: np.ndarray,
        hashes: np.ndarray | None,
        shape: tuple[int, int, int],
        view: View,
        cache_bytes: int,
        bad: BadImages,
    ):
        self.split, self.paths, self.labels = split, list(paths), np.asarray(labels, dtype=np.int32)
        self.headers, self.shape, self.view, self.cache_bytes, self.bad = headers, shape, view, cache_bytes, bad
        self._hashes = hashes
        self._watch: Watch | None = Watch(self.paths, self.headers)
        self._decoded: InMemory | None = None
        self._unreadable: np.ndarray | None = None
        self._interrupted = ""  # the reason why reading stopped although bad images are allowed
        with tf.device("CPU:0"):
            self._paths = tf.constant([os.fsencode(path) for path in paths])  # a name need not be valid UTF-8
            self._kinds, self._orientations, heights, widths = (
                # A bad one has no sides, by which windows are divided.
                tf.constant(np.maximum(headers[name], name in ("height", "width")), tf.int32)
                for name in ("kind", "orientation", "height", "width")
            )
            turned = self._orientations >= 5
            self._heights, self._widths = tf.where(turned, widths, heights), tf.where(turned, heights, widths)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all images in memory."""
        return len(self) * int(np.prod(self.shape))

    def fetcher(self, min_area: float = 0) -> Fetcher:
        if not min_area and self.decoded_bytes <= self.cache_bytes:
            return self._in_memory().fetcher()

        def fetch(indices: Indices, positions: PositionRanges | None) -> Fetched:
            area = min_area if positions else 0.0
            numbers = positions.uniforms(NUMBERS, "resized") if positions and area else tf.zeros([tf.size(indices), 0])
            if positions and self.bad.policy != "fail":
                return self._tolerant(indices, numbers, area)
            valid = np.ones(len(self), np.float32)
            if self.bad.policy != "fail":  # which ends at the first, without all being decoded beforehand
                with tf.init_scope():
                    valid[self.unreadable()] = 0
            return self._strict(indices, numbers, area, tf.gather(valid, indices), not valid.all())

        return fetch

    def unreadable(self) -> np.ndarray:
        if self.decoded_bytes <= self.cache_bytes:
            return self._in_memory().unreadable()
        if self.bad.policy == "fail":  # the first one ends the run when it is drawn
            return np.zeros(0, np.int64)
        if self._unreadable is None:
            self._unreadable = self._settle([row for row, _ in self._readable(np.arange(len(self)))])
        else:  # others may have been replaced since
            readable = np.setdiff1d(np.arange(len(self)), self._unreadable)
            self._unreadable = np.union1d(self._unreadable, self._changed(readable))
            self.bad.check()
        return self._unreadable

    def content_hashes(self) -> np.ndarray:
        if self._hashes is None:
            looks = [look(path, hashed=True) for path in self.paths]
            for path, now, size in zip(self.paths, looks, self.headers["size"], strict=True):
                if now.size < 0 <= size:
                    self.bad.add(self.split, path, now.header.reason)
            self.bad.check()
            self._hashes = np.array([now.content for now in looks], np.float64)
        return self._hashes

    def select(self, indices: np.ndarray) -> Files:
        hashes = None if self._hashes is None else self._hashes[indices]
        paths, headers, labels = [self.paths[i] for i in indices], self.headers[indices], self.labels[indices]
        how = self.shape, self.view, self.cache_bytes, self.bad
        return Files(self.split, paths, labels, headers, hashes, *how)

    def explain(self) -> str:
        if not self.bad.verdict():
            with contextlib.suppress(exits.BadData):
                # Whole: the part that could not be read need not be the one that an evaluation shows.
                for _ in self._readable(self._suspects(), whole=True):
                    pass
        return self.bad.verdict() or self._interrupted

    def _suspects(self) -> np.ndarray:
        """Rows, among which is that of any file that could not be read: all."""
        return np.arange(len(self))

    def _strict(
        self, indices: Indices, numbers: Uniforms, min_area: float, valid: Valid, has_unreadable: bool
    ) -> Fetched:
        """Every image that counts; the first that cannot be read ends the stream."""
        watched = self._watched(indices, valid)
        files = decode.File(self._places(watched), *self._facts(watched), self.view.bit_depth)
        plans = self._plans(files, numbers, min_area)
        if plans:
            files = files._replace(height=0, width=0)

        def image(example: tuple[decode.File, Plan | None, Scalar | int]) -> Image:
            file, plan, counts = example
            return choose(
                counts > 0,
                lambda: self._image(file._replace(contents=self._contents(file.contents)), plan, min_area),
                lambda: tf.zeros(self.shape, tf.uint8),
            )

        examples = (files, plans, valid if has_unreadable else 1)
        images = map_rows(image, examples, tf.TensorSpec(self.shape, tf.uint8))
        return Fetched(images, valid, indices)

    def _tolerant(self, indices: Indices, numbers: Uniforms, min_area: float) -> Fetched:
        """Every image that can be read; another, or none, in the place of one that cannot."""
        tries = TRIES if self.bad.policy == "substitute" else 0

        def image(index: Scalar, numbers: Array) -> tuple[Image, Scalar]:
            index = self._watched(index[None], None)[0]
            return self._shown(index, numbers, min_area), index

        def first_readable(index: Scalar, numbers: Array) -> tf.data.Dataset:
            candidates = (index + tf.range(tries + 1, dtype=tf.int64)) % len(self)
            candidates = tf.boolean_mask(candidates, tf.gather(self._kinds, candidates) != Kind.BAD)
            nothing = tf.data.Dataset.from_tensors((tf.zeros(self.shape, tf.uint8), tf.constant(-1, tf.int64)))
            images = tf.data.Dataset.from_tensor_slices(candidates).map(lambda candidate: image(candidate, numbers))
            return images.ignore_errors(log_warning=False).concatenate(nothing).take(1)

        # Datasets within an element are the one place of a graph where an error can be caught.
        examples = tf.data.Dataset.from_tensor_slices((indices, numbers)).flat_map(first_readable)
        images, shown = examples.batch(tf.size(indices, tf.int64)).get_single_element()

        def note(indices: np.ndarray, shown: np.ndarray) -> np.ndarray:
            for index, substitute in zip(indices.tolist(), shown.tolist(), strict=True):
                unreadable = tries + 1 if substitute < 0 else (substitute - index) % len(self)
                for row in range(index, index + unreadable):
                    self._examine(row % len(self))
            self.bad.check()
            return shown

        shown = tf.cond(
            tf.reduce_any(shown != indices),
            lambda: tf.numpy_function(note, [indices, shown], tf.int64, stateful=False),
            lambda: shown,
        )
        shown = tf.reshape(shown, tf.shape(indices))
        images = tf.ensure_shape(images, [*indices.shape, *self.shape])
        return Fetched(images, tf.cast(shown >= 0, tf.float32), tf.where(shown >= 0, shown, indices))

    def _watched(self, indices: Indices, valid: Valid | None) -> Indices:
        """The same indices; an error if a file, of those that count, has been replaced. With `valid` it ends the stream."""
        if self._watch is None:
            return indices

        def check(indices: np.ndarray, valid: np.ndarray) -> np.ndarray:
            changed = self._changed(indices[valid > 0])
            if len(changed):
                self.bad.check()
                path = self.paths[changed[0]]
                sentence = f"the image {path} {self.bad.reason(self.split, path)}; bring it back as it was, and go on."
                self._interrupted = sentence if ends else ""
                raise ValueError(sentence)
            return indices

        ends, valid = valid is not None, tf.ones_like(indices) if valid is None else valid
        same = tf.numpy_function(check, [indices, valid], tf.int64, stateful=False)
        return tf.ensure_shape(same, indices.shape)

    def _changed(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these files that have been replaced, int64; they are added to `bad`."""
        changes = self._watch.changes(rows) if self._watch else {}
        for row, how in changes.items():
            self.bad.add(self.split, self.paths[row], how)
        return np.array(list(changes), np.int64)

    def _plans(self, files: decode.File, numbers: Uniforms, min_area: float) -> Plan | None:
        """How a batch is decoded; with `min_area`, a window of each by random numbers [n, NUMBERS]. None: whole."""
        _, _, orientations, heights, widths, _ = files
        if min_area:
            windows = random_windows(numbers, heights, widths, min_area)
        elif self.view.size:
            windows = centre_windows(heights, widths, self.view)
        else:
            return None
        return plan(orientations, heights, widths, windows, *self._resizing(min_area))

    def _resizing(self, min_area: float) -> tuple[tuple[int, int], bool, bool]:
        """(size, smooth, cubic) as in decode.part."""
        return self.shape[:2], not min_area, not min_area and self.view.fraction != 1

    def _image(self, file: decode.File, plan: Plan | None, min_area: float) -> Image:
        if plan:
            return decode.planned(file, plan, *self._resizing(min_area))
        return tf.ensure_shape(decode.whole(file), self.shape)

    def _shown(self, index: Scalar, numbers: Array, min_area: float) -> Image:
        """One image by itself, by [NUMBERS] random numbers."""
        file = self._file(index)
        batch = tf.nest.map_structure(lambda fact: fact[None] if tf.is_tensor(fact) else fact, file)
        plans = self._plans(batch, numbers[None], min_area)
        return self._image(file, plans and tf.nest.map_structure(lambda array: array[0], plans), min_area)

    def _file(self, index: Scalar) -> decode.File:
        return decode.File(self._contents(self._places(index)), *self._facts(index), self.view.bit_depth)

    def _places(self, indices: Array) -> Array:
        """Where the contents of one file or several are."""
        return tf.gather(self._paths, indices)

    def _contents(self, place: Scalar) -> Scalar:
        return tf.io.read_file(place)

    def _facts(self, indices: Array) -> tuple[Array | int, Array | int, Array, Array]:
        """(kind, orientation, height, width) of one file or several, int32; a number of Python is that of all."""
        known = ((self._kinds, "kind"), (self._orientations, "orientation"))
        # Most folders hold one kind, upright.
        kind, orientation = (
            int(self.headers[name][0]) if len(np.unique(self.headers[name])) == 1 else tf.gather(facts, indices)
            for facts, name in known
        )
        return kind, orientation, tf.gather(self._heights, indices), tf.gather(self._widths, indices)

    def _in_memory(self) -> InMemory:
        if self._decoded is None:
            what = f"the decoded images of the split {self.split}"
            memory.check("cache_bytes", self.cache_bytes, what, self.decoded_bytes)
            images, readable = np.zeros((len(self), *self.shape), np.uint8), []
            for row, image in self._readable(np.arange(len(self))):
                images[row] = image
                readable.append(row)
            unreadable = self._settle(readable)
            self._decoded = InMemory(images, self.labels, None, unreadable, self.bad.policy == "substitute")
        return self._decoded

    def _readable(self, rows: np.ndarray, whole: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """(row, image) of each of these files that can be read, in order; with --bad_images=fail, BadData at any other.

        With `whole` a file must be readable to its end, and its number of levels stands for the image.
        """
        rows = rows[self.headers["kind"][rows] != Kind.BAD]

        def image(row: Scalar) -> tuple[Array, Array]:
            if whole:
                return row, tf.size(decode.whole(self._file(row)))
            return row, self._shown(row, tf.zeros([0]), 0)

        stream = in_parallel(tf.data.Dataset.from_tensor_slices(rows), image, ahead=64)
        if self.bad.policy != "fail":
            stream = stream.ignore_errors(log_warning=False)
        done = 0
        try:
            for row, pixels in stream.as_numpy_iterator():
                yield int(row), pixels
                done += 1
        except tf.errors.OpError:
            self._examine(rows[done])
            self.bad.check()
            raise

    def _settle(self, readable: Sequence[int]) -> np.ndarray:
        """After all files were read, these rows with success: the other rows, and those that changed meanwhile, int64."""
        unreadable = np.setdiff1d(np.arange(len(self)), readable)
        for row in unreadable:
            self._examine(row)
        unreadable = np.union1d(unreadable, self._changed(np.array(readable, np.int64)))
        self.bad.check()
        return unreadable

    def _examine(self, row: int) -> None:
        """Finds the reason why a file cannot be read."""
        if (self.split, self.paths[row]) in self.bad:
            return
        reason = (self._watch and self._watch.change(row)) or decode.fault(lambda: self._file(tf.constant(row)))
        self.bad.add(self.split, self.paths[row], reason)
