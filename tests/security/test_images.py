"""Images that are small to send and large, or slow, to read are bad images, found at once and in little memory."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convoy import exits
from convoy.data import memory
from convoy.data.config import DataConfig
from convoy.data.images.hashing import content_hash
from convoy.data.images.probe import Kind, look, probe
from convoy.data.images.unreadable import BadImages
from convoy.data.images.view import View
from convoy.data.records import format
from convoy.data.records.format import Packed, Shards
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.sources.packed import PackedFiles
from support import write_images

pytestmark = pytest.mark.slow

GIBIBYTE = 1 << 30


def png(side: int) -> bytes:
    """The beginning of an image of a given side; a decoder allocates memory for all its pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", bytes(20)), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def encoded(format: str, level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(buffer, format)
    return buffer.getvalue()


def packed(folder: Path, contents: list[tuple[bytes, int]], bad: BadImages) -> PackedFiles:
    """Records whose index says that every content is an image of 8x8 pixels."""
    images = [Packed(content, kind, (8, 8, 3), 0, number / 8) for number, (content, kind) in enumerate(contents)]
    index = format.write_shard(folder / "shard", 0, images)
    bad.expect("train", len(images))
    return PackedFiles(
        "train", Shards([folder / "shard"], index), np.arange(len(index)), (8, 8, 3), View(), GIBIBYTE, bad
    )


def test_an_image_is_decoded_only_once_its_header_agrees_with_the_index(tmp_path, monkeypatch):
    """A file of 20 kB can decode to a gigabyte, and a decoder of one format also reads others, with all frames."""
    decoded = list[bytes]()

    def decode(contents: tf.Tensor, *_: object, **__: object) -> tf.Tensor:
        def seen(content: bytes) -> np.ndarray:
            decoded.append(content)
            return np.zeros((8, 8, 3), np.uint8)

        return tf.ensure_shape(tf.numpy_function(seen, [contents], tf.uint8), (None, None, 3))

    monkeypatch.setattr(tf.io, "decode_png", decode)
    monkeypatch.setattr(tf.io, "decode_jpeg", decode)
    right = [(encoded("PNG"), Kind.PNG), (encoded("JPEG"), Kind.JPEG)]
    wrong = [
        (png(13_000), Kind.PNG),
        (png(13_000), Kind.JPEG),
        (png(9), Kind.PNG),
        (encoded("GIF"), Kind.PNG),
        (b"", Kind.JPEG),
    ]
    bad = BadImages("skip", 1.0)
    assert packed(tmp_path, right + wrong, bad).unreadable().tolist() == [2, 3, 4, 5, 6]
    assert sorted(decoded) == sorted(content for content, _ in right)
    reasons = [bad.reason("train", f"record {row} of {tmp_path / 'shard'}") for row in range(2, 7)]
    assert all("8x8" in reason for reason in reasons), reasons
    assert "13000x13000" in reasons[0], reasons


BEGINNINGS = {
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0",
    "JPEG, comments of nothing": b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5_000_000,
    "PNG, chunks of nothing": png(8)[:33]
    + (struct.pack(">I4s", 0, b"teSt") + struct.pack(">I", zlib.crc32(b"teSt"))) * 2_000_000,
    "GIF": b"GIF89a\x08\x00\x08\x00\x00\x00\x00" + b"!\xfe\x01x" * 1_000,
    "WEBP": b"RIFF\0\0\0\1WEBPVP8X\x0a\0\0\0\x08\0\0\0\7\0\0\7\0\0",
}


@pytest.mark.parametrize("format", BEGINNINGS)
def test_an_endless_header_is_given_up_at_once(tmp_path, format):
    """Reading half a gigabyte of zeros by chunks or bytes would take minutes."""
    path = tmp_path / "image"
    path.write_bytes(BEGINNINGS[format])
    os.truncate(path, GIBIBYTE // 2)
    began = time.monotonic()
    looked = look(str(path))
    assert time.monotonic() - began < 10
    assert looked.header.kind == (Kind.WEBP if format == "WEBP" else Kind.BAD), looked
    assert looked.size == GIBIBYTE // 2
    content = BEGINNINGS[format] + bytes(64 << 20)
    assert probe(content).kind == looked.header.kind
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("hashed", [False, True])
def test_a_file_of_a_tebibyte_is_no_image(tmp_path, hashed):
    path = tmp_path / "image.png"
    path.write_bytes(encoded("PNG"))
    assert look(str(path), hashed).header.kind == Kind.PNG
    os.truncate(path, 1 << 40)
    seen = look(str(path), hashed)
    assert seen.header.kind == Kind.BAD
    assert "1,099,511,627,776 bytes" in seen.header.reason
    assert (seen.size, seen.changed) == (1 << 40, path.stat().st_mtime_ns)


def test_a_folder_with_a_file_of_a_tebibyte_is_read_without_it(tmp_path):
    write_images(tmp_path, ("cat", "dog"), each=4)
    os.truncate(tmp_path / "cat" / "000.jpg", 1 << 40)
    config = DataConfig(f"folder:{tmp_path}", bad_images="skip", max_bad_fraction=1.0, eval_split="hash:0.5")
    examples = open_dataset(config).split("train")
    assert examples.unreadable().tolist() == [0]
    assert examples.content_hashes()[0] == content_hash(b"")


@pytest.mark.parametrize("source", ["folder", "records of files", "records of pixels"])
def test_images_larger_than_memory_are_refused_whatever_the_configuration_says(tmp_path, monkeypatch, source):
    """A stranger's run directory may set --image_size and --cache_bytes."""
    place = tmp_path / "images"
    write_images(place, ("cat", "dog"), each=2)
    dataset = f"folder:{place}"
    if source != "folder":
        pack(DataConfig(dataset, image_size=8 if source == "records of pixels" else 0), tmp_path / "packed", 1 << 20)
        dataset = f"records:{tmp_path / 'packed'}"
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 10_000)
    examples = open_dataset(DataConfig(dataset, image_size=4096, cache_bytes=1 << 60)).split("train")
    for use in (examples.fetcher, examples.unreadable):
        with pytest.raises(exits.CannotRun, match="201,326,592 bytes, and this machine's memory has 100,000,000"):
            use()
