"""Photographs cut out at random, resized and flipped by Convoy and by its peers: `python benchmarks/photographs.py`.

Every side turns the same 250 JPEG files, from the page cache, into uint8 RGB batches of 64 of 224x224. The
crops are random-resized (8 % to all of the area, sides 3:4 to 4:3) and flipped left-right every other time. Crops reduced by
less than two are bilinear without antialiasing, unless the notes say otherwise. benchmarks/peers.txt lists the peers. Writes
results/photographs.csv.
"""

from __future__ import annotations

import functools
import itertools
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import DATA, HERE
from sides import Side, main

BATCH, SIZE, MIN_AREA, ASPECT = 64, 224, 0.08, (3 / 4, 4 / 3)
REDUCED = "where reduced by two or more, first by 2, 4 or 8 in the decoder, then"
AREA = f"whole files; {REDUCED} by area average; else bilinear"


def prepare(folder: Path) -> str:
    """The photographs in two folders, as classes."""
    sample = DATA.parent / "imagenet-sample"
    if not sample.is_dir():
        sys.exit(f"no photographs in {sample}; set CONVOY_TEST_DATA")
    for index, path in enumerate(sorted(sample.glob("*.JPEG"))):
        target = folder / f"class{index % 2}"
        target.mkdir(exist_ok=True)
        shutil.copy(path, target / f"{path.stem}.jpg")
    return str(folder)


def files(folder: str) -> list[str]:
    return sorted(map(str, Path(folder).glob("*/*.jpg")))


def convoy_with(augment: str) -> Callable[[str], Callable[[], int]]:
    def start(folder: str) -> Callable[[], int]:
        from convoy.data.config import DataConfig
        from convoy.data.pipeline import BatchSharding, training_stream
        from convoy.data.sources.opening import open_dataset
        from convoy.trainer.bench import fetcher

        data = DataConfig(f"folder:{folder}", image_size=SIZE, augment=augment, cache_bytes=0, eval_split="none")
        fetch = fetcher(training_stream(open_dataset(data).split("train"), BatchSharding(BATCH), data, 0, 0))

        def make() -> int:
            fetch(1)
            return BATCH

        return make

    return start


def keras_randaugment(folder: str) -> Callable[[], int]:
    """tf.data decodes as Convoy does; Keras' layer changes the batch, 2 operations of the strength of Convoy's 9 of 30."""
    import keras
    import tensorflow as tf

    from convoy.trainer.bench import fetcher

    layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.3)

    def read(path: Any) -> Any:
        contents = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(contents), tf.zeros([1, 0, 4]), area_range=(MIN_AREA, 1), aspect_ratio_range=ASPECT,
            use_image_if_no_bounding_boxes=True, min_object_covered=0,
        )  # fmt: skip
        window = tf.concat([begin[:2], size[:2]], axis=0)
        return tf.image.resize(tf.io.decode_and_crop_jpeg(contents, window, 3), (SIZE, SIZE))

    def change(images: Any) -> Any:
        return tf.cast(layer(tf.image.random_flip_left_right(images), training=True), tf.uint8)

    paths = tf.data.Dataset.from_tensor_slices(files(folder)).shuffle(250).repeat()
    batches = paths.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    fetch = fetcher(batches.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))

    def make() -> int:
        fetch(1)
        return BATCH

    return make


def window(height: int, width: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random-resized-crop."""
    for _ in range(10):
        area = height * width * draw.uniform(MIN_AREA, 1)
        ratio = math.exp(draw.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(draw.integers(0, height - h + 1)), int(draw.integers(0, width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


@functools.cache
def size_of(path: str) -> tuple[int, int]:
    """(height, width) from the header, read once for each file, as Convoy does."""
    from PIL import Image

    with Image.open(path) as image:
        return image.height, image.width


def opencv_image(path: str, draw: np.random.Generator) -> np.ndarray:
    import cv2

    reduced = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    reduced[8] = cv2.IMREAD_REDUCED_COLOR_8
    top, left, h, w = window(*size_of(path), draw)
    # Reduced within the decoder by Convoy's rule.
    by = max(by for by in reduced if by == 1 or min(h, w) >= by * SIZE)
    image = cv2.imread(path, reduced[by] - cv2.IMREAD_COLOR + cv2.IMREAD_COLOR_RGB)  # one excludes the other
    top, left, bottom, right = (round(edge / by) for edge in (top, left, top + h, left + w))
    how = cv2.INTER_LINEAR if by == 1 else cv2.INTER_AREA
    image = cv2.resize(image[top:bottom, left:right], (SIZE, SIZE), interpolation=how)
    return cv2.flip(image, 1) if draw.random() < 0.5 else image


def pillow_image(path: str, draw: np.random.Generator) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        top, left, h, w = window(image.height, image.width, draw)
        # Reduced within the decoder where the crop allows it.
        scale = min(h, w) // SIZE
        if scale >= 2:
            before = image.width
            image.draft("RGB", (image.width // scale, image.height // scale))
            top, left, h, w = (value * image.width / before for value in (top, left, h, w))
        box = (left, top, min(left + w, image.width), min(top + h, image.height))
        image = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    if draw.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def looping(read: Callable[[str, np.random.Generator], np.ndarray]) -> Callable[[str], Callable[[], int]]:
    """A plain loop over shuffled files into a batch."""

    def start(folder: str) -> Callable[[], int]:
        draw = np.random.default_rng()
        batch = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
        paths = _endless(files(folder), draw)

        def make() -> int:
            for row in range(BATCH):
                batch[row] = read(next(paths), draw)
            return BATCH

        return make

    return start


def _endless(paths: list[str], draw: np.random.Generator) -> Iterator[str]:
    while True:
        yield from (paths[index] for index in draw.permutation(len(paths)))


def opencv(folder: str) -> Callable[[], int]:
    import cv2

    cv2.setNumThreads(0)
    return looping(opencv_image)(folder)


def torchvision(folder: str) -> Callable[[], int]:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    crop = v2.RandomResizedCrop(SIZE, scale=(MIN_AREA, 1), ratio=ASPECT, antialias=False)
    transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
    paths = _endless(files(folder), np.random.default_rng())

    def make() -> int:
        batch = itertools.islice(paths, BATCH)
        torch.stack([transform(decode_jpeg(read_file(path), ImageReadMode.RGB)) for path in batch])
        return BATCH

    return make


def grain(folder: str, processes: int) -> Callable[[], int]:
    """Grain loads, OpenCV decodes: the fastest of its pairs."""
    import cv2
    from absl import flags
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    cv2.setNumThreads(0)
    dataset = MapDataset.source(files(folder)).seed(0).shuffle().repeat(num_epochs=None)
    dataset = dataset.random_map(opencv_image).batch(BATCH)
    stream = dataset.to_iter_dataset(
        ReadOptions(num_threads=0 if processes else 2, prefetch_buffer_size=0 if processes else 4)
    )
    if processes:
        flags.FLAGS.mark_as_parsed()  # Grain's processes read some
        stream = stream.mp_prefetch(MultiprocessingOptions(num_workers=processes))
    iterator = iter(stream)
    return lambda: len(next(iterator))


def dali(folder: str) -> Callable[[], int]:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=2, device_id=None)
    def pipeline() -> Any:
        encoded, _ = fn.readers.file(files=files(folder), random_shuffle=True)
        images = fn.decoders.image_random_crop(
            encoded, device="cpu", output_type=types.RGB, random_area=(MIN_AREA, 1.0), random_aspect_ratio=ASPECT
        )
        images = fn.resize(images, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=False)
        return fn.flip(images, horizontal=fn.random.coin_flip())

    built = pipeline()
    built.build()

    def make() -> int:
        built.run()
        return BATCH

    return make


SIDES = {
    "convoy": Side(
        convoy_with("photo"), "tensorflow", True, f"a part of each file; {REDUCED} antialiased; else bilinear"
    ),
    "OpenCV in a bare loop": Side(opencv, "opencv-python-headless", False, AREA),
    "Pillow in a bare loop": Side(looping(pillow_image), "pillow", False, "always antialiased: Pillow has no other"),
    "torchvision": Side(torchvision, "torchvision", False, "never antialiased"),
    "Grain with OpenCV, threads": Side(lambda folder: grain(folder, 0), "grain", True, AREA),
    "Grain with OpenCV, processes": Side(lambda folder: grain(folder, 2), "grain", True, AREA),
    "DALI on the CPU": Side(dali, "nvidia-dali-cuda120", True, "never antialiased"),
    "convoy with RandAugment": Side(
        convoy_with("photo+randaugment:2:9"), "tensorflow", True, "2 operations of magnitude 9"
    ),
    "Keras layers with RandAugment": Side(
        keras_randaugment, "keras", True, "2 operations, factor 0.3; never antialiased"
    ),
}


if __name__ == "__main__":
    main(SIDES, prepare, HERE / "results" / "photographs.csv", __doc__)
