"""The article's augmentation of CIFAR-10 by Convoy and by its peers: `python benchmarks/augmentation.py`.

Every side turns the same uint8 images of 32x32 into shuffled uint8 batches of 128. It rotates by up to 15 degrees, shifts
by up to a tenth, and flips left-right every other time. All are bilinear, with the nearest edge pixel outside.
benchmarks/peers.txt lists the peers. Writes results/augmentation.csv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import DATA, HERE
from sides import Side, main

BATCH, DEGREES, SHIFT = 128, 15, 0.1
SAME = "bilinear, nearest edge pixel"


def prepare(folder: Path) -> str:
    """The training images of CIFAR-10 in a file."""
    from convoy.data.config import DataConfig
    from convoy.data.sources.opening import open_dataset

    train = open_dataset(DataConfig("cifar10", str(DATA))).split("train")
    np.savez(folder / "train.npz", images=train.images, labels=train.labels)
    return str(folder / "train.npz")


def load(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as arrays:
        return arrays["images"], arrays["labels"]


def fetching(stream: Any, batches: int = 8) -> Callable[[], int]:
    """Takes batches of tf.data inside a graph, as a training loop does."""
    from convoy.trainer.bench import fetcher

    fetch = fetcher(stream)

    def make() -> int:
        fetch(batches)
        return batches * BATCH

    return make


def convoy(path: str) -> Callable[[], int]:
    from convoy.data.config import DataConfig
    from convoy.data.pipeline import BatchSharding, training_stream
    from convoy.data.sources.in_memory import InMemory

    return fetching(training_stream(InMemory(*load(path)), BatchSharding(BATCH), DataConfig(augment="article"), 0, 0))


def projective(path: str) -> Callable[[], int]:
    """What one op of TensorFlow gives: all three in one matrix an image, a batch at a time."""
    import tensorflow as tf

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        angle = tf.random.uniform([BATCH], -math.radians(DEGREES), math.radians(DEGREES))
        x, y = (tf.random.uniform([BATCH], -SHIFT * 32, SHIFT * 32) for _ in range(2))
        mirror = tf.where(tf.random.uniform([BATCH]) < 0.5, -1.0, 1.0)
        cos, sin, centre, zero = tf.cos(angle), tf.sin(angle), 15.5, tf.zeros([BATCH])
        a, b, d, e = mirror * cos, -sin, mirror * sin, cos
        rows = [a, b, centre + x - centre * (a + b), d, e, centre + y - centre * (d + e), zero, zero]
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=images, transforms=tf.stack(rows, axis=1), output_shape=[32, 32], fill_value=0.0,
            interpolation="BILINEAR", fill_mode="NEAREST",
        )  # fmt: skip
        return moved, labels

    return fetching(_batches(path).map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def keras_layers(path: str) -> Callable[[], int]:
    import keras
    import tensorflow as tf

    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(DEGREES / 360, fill_mode="nearest"),
        keras.layers.RandomTranslation(SHIFT, SHIFT, fill_mode="nearest"),
    ]

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in layers:
            images = layer(images, training=True)
        return tf.cast(images, tf.uint8), labels

    return fetching(_batches(path).map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def _batches(path: str) -> Any:
    import tensorflow as tf

    images, labels = load(path)
    shuffled = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).repeat()
    return shuffled.batch(BATCH, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE)


def image_data_generator(path: str) -> Callable[[], int]:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(
        rotation_range=DEGREES, width_shift_range=SHIFT, height_shift_range=SHIFT, horizontal_flip=True, dtype="uint8"
    )
    flow = generator.flow(*load(path), batch_size=BATCH)
    return lambda: len(next(flow)[0])


def opencv_matrix(draw: np.random.Generator) -> np.ndarray:
    """Output -> input, with what Convoy draws."""
    angle, x, y, flip = draw.random(4)
    angle = math.radians(DEGREES) * (2 * angle - 1)
    cos, sin, centre, mirror = math.cos(angle), math.sin(angle), 15.5, -1 if flip < 0.5 else 1
    a, b, d, e = mirror * cos, -sin, mirror * sin, cos
    x, y = (SHIFT * 32 * (2 * x - 1), SHIFT * 32 * (2 * y - 1))
    return np.array([[a, b, centre + x - centre * (a + b)], [d, e, centre + y - centre * (d + e)]])


def opencv_warp(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, opencv_matrix(draw), (32, 32), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def opencv(path: str) -> Callable[[], int]:
    import cv2

    cv2.setNumThreads(0)
    return looping(path, opencv_warp)


def albumentations(path: str) -> Callable[[], int]:
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)
    shift = (-SHIFT, SHIFT)
    affine = A.Affine(
        rotate=(-DEGREES, DEGREES), translate_percent={"x": shift, "y": shift}, interpolation=cv2.INTER_LINEAR,
        border_mode=cv2.BORDER_REPLICATE, p=1,
    )  # fmt: skip
    transform = A.Compose([A.HorizontalFlip(p=0.5), affine])
    return looping(path, lambda image, draw: transform(image=image)["image"])


def looping(path: str, change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable[[], int]:
    """A plain loop over shuffled images into a batch."""
    images, labels = load(path)
    draw = np.random.default_rng()
    batch = np.empty((BATCH, *images.shape[1:]), np.uint8)

    def order() -> Iterator[np.ndarray]:
        while True:
            shuffled = draw.permutation(len(images))
            yield from (shuffled[at : at + BATCH] for at in range(0, len(images) - BATCH, BATCH))

    indices = order()

    def make() -> int:
        chosen = next(indices)
        for row, index in enumerate(chosen):
            batch[row] = change(images[index], draw)
        labels[chosen]
        return BATCH

    return make


def torchvision(path: str) -> Callable[[], int]:
    import torch
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(1)
    affine = v2.RandomAffine(DEGREES, translate=(SHIFT, SHIFT), interpolation=InterpolationMode.BILINEAR)
    transform = v2.Compose([v2.RandomHorizontalFlip(), affine])
    images, labels = load(path)
    pixels, labels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)

    def make() -> int:
        chosen = torch.randint(len(pixels), (BATCH,))
        torch.stack([transform(pixels[index]) for index in chosen.tolist()])
        labels[chosen]
        return BATCH

    return make


def grain(path: str, processes: int) -> Callable[[], int]:
    """Grain loads, OpenCV changes: the fastest of its pairs."""
    import cv2
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    cv2.setNumThreads(0)
    images, labels = load(path)
    dataset = MapDataset.range(len(images)).seed(0).shuffle().repeat(num_epochs=None)
    dataset = dataset.random_map(lambda index, draw: (opencv_warp(images[index], draw), labels[index])).batch(BATCH)
    stream = dataset.to_iter_dataset(
        ReadOptions(num_threads=0 if processes else 2, prefetch_buffer_size=0 if processes else 64)
    )
    if processes:
        stream = stream.mp_prefetch(MultiprocessingOptions(num_workers=processes))
    iterator = iter(stream)
    return lambda: len(next(iterator)[0])


SIDES = {
    "convoy": Side(convoy, "tensorflow", True, SAME),
    "one projective op in tf.data": Side(projective, "tensorflow", True, f"{SAME}; cut off, not rounded"),
    "Keras layers in tf.data": Side(keras_layers, "keras", True, f"{SAME}; float32 between, cut off"),
    "ImageDataGenerator": Side(image_data_generator, "keras", False, f"{SAME}; float64 within SciPy"),
    "albumentations": Side(albumentations, "albumentations", False, f"{SAME}; 5 bits of a pixel"),
    "torchvision v2": Side(torchvision, "torchvision", False, "bilinear, black outside"),
    "Grain with OpenCV, threads": Side(lambda path: grain(path, 0), "grain", True, f"{SAME}; 5 bits of a pixel"),
    "Grain with OpenCV, processes": Side(lambda path: grain(path, 2), "grain", True, f"{SAME}; 5 bits of a pixel"),
    "OpenCV in a bare loop": Side(opencv, "opencv-python-headless", False, f"{SAME}; 5 bits of a pixel"),
}


if __name__ == "__main__":
    main(SIDES, prepare, HERE / "results" / "augmentation.csv", __doc__)
