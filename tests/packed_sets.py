"""Data sets for tests of packing, and their comparison."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from convoy.data.records.manifest import MANIFEST, read_manifest
from convoy.data.records.sending import sending


def pixels(examples) -> np.ndarray:
    """All images of a split, as an evaluation reads them."""
    fetch = tf.function(examples.fetcher(), autograph=False)
    images, valid, _ = fetch(tf.range(len(examples), dtype=tf.int64), None)
    assert valid.numpy().all()
    return images.numpy()


def send(root: Path, url: str) -> None:
    """Copies packed records to a bucket, as packing there leaves them."""
    manifest = read_manifest(root / MANIFEST)
    with tempfile.TemporaryDirectory() as folder, sending(url, Path(folder), manifest.plan) as bucket:
        for name, entry in manifest.files.items() if bucket else ():
            shutil.copy(root / name, folder)
            bucket.put(name, entry)
        if bucket:
            bucket.finish((root / MANIFEST).read_bytes())


def assert_equal(source, packed) -> None:
    """Every split has the same images, labels and hashes in the same order."""
    assert packed.split_names == source.split_names
    assert packed.class_names == source.class_names
    assert packed.image_shape == source.image_shape
    for split in source.split_names:
        ours, theirs = packed.split(split), source.split(split)
        assert np.array_equal(pixels(ours), pixels(theirs))
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.content_hashes(), theirs.content_hashes())


def write_kinds(root: Path) -> None:
    """Image files of every kind and of many sizes."""
    generator = np.random.default_rng(1)

    def image(side: int) -> Image.Image:
        pixels = Image.fromarray(generator.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        return pixels.resize((side, side + 30), Image.Resampling.BICUBIC)

    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    image(90).save(root / "a" / "0.jpg", quality=95)
    image(91).convert("L").save(root / "a" / "1.jpg")
    image(70).convert("CMYK").save(root / "a" / "2.jpg", quality=95)
    image(80).save(root / "a" / "3.jpg", exif=turned)
    image(81).save(root / "a" / "4.webp", quality=90)
    image(70).save(root / "b" / "0.png")
    image(71).save(root / "b" / "1.bmp")
    image(72).quantize(64).save(root / "b" / "2.gif", save_all=True, append_images=[image(72).quantize(64)])
    Image.fromarray(np.asarray(image(75).convert("L")).astype(np.uint16) * 256 + 77).save(root / "b" / "3.png")
    image(64).quantize(16).save(root / "b" / "4.png")
    image(65).convert("RGBA").save(root / "b" / "5.png")
    image(66).save(root / "b" / "6.png", exif=turned)
