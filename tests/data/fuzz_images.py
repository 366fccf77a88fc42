"""Damaged image files through the path that a run takes: probed, then decoded as --bad_images=substitute decodes."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from convoy.data.images.probe import Kind, look
from convoy.data.images.unreadable import BadImages
from convoy.data.images.view import View
from convoy.data.order import PositionRanges
from convoy.data.sources.catalogue import ENTRY
from convoy.data.sources.files import Files

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_AT_ONCE = 500  # cases of one graph
_SIDE = 32


def seeds() -> dict[str, bytes]:
    """A sound file of each format, of 48x40 pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC)
    files = {}
    for format in FORMATS:
        file = io.BytesIO()
        picture.save(file, format, **({"lossless": True} if format == "WEBP" else {}))
        files[format] = file.getvalue()
    return files


def mutated(format: str, content: bytes, generator: np.random.Generator) -> bytes:
    """Bits flipped, an end cut off, or a size declared that is not there."""
    changed = bytearray(content)
    kind = generator.integers(3)
    if kind == 0:
        for _ in range(int(generator.integers(1, 6))):
            changed[int(generator.integers(len(changed)))] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        del changed[int(generator.integers(len(changed))) :]
    else:
        # Absurd, or one that would be decoded if it were there.
        exponents = (14, 16) if generator.random() < 0.5 else (3, 11)
        width, height = (2 ** generator.uniform(*exponents, 2)).astype(int)
        _declare(format, changed, int(width), int(height))
    return bytes(changed)


def _declare(format: str, content: bytearray, width: int, height: int) -> None:
    if format == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">2H", height, width)
    elif format == "PNG":
        content[16:24] = struct.pack(">2I", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif format == "GIF":
        content[6:10] = struct.pack("<2H", width, height)
    else:
        content[21:25] = struct.pack("<I", width & 0x3FFF | (height & 0x3FFF) << 14)


def outcomes(folder: Path, first: int, count: int, seed: int) -> Counter[tuple[str, str]]:
    """(format, outcome) of the cases first .. first + count - 1, each a function of (seed, its number) alone.

    decoded: its own pixels, right or wrong, are shown; substituted: it is found bad where it is decoded, and a sound image
    shown; refused: its header is enough.
    """
    sound, counts = seeds(), Counter[tuple[str, str]]()
    for start in range(first, first + count, _AT_ONCE):
        cases = range(start, min(start + _AT_ONCE, first + count))
        names = [FORMATS[case % len(FORMATS)] for case in cases]
        contents = [
            mutated(name, sound[name], np.random.default_rng((seed, case)))
            for name, case in zip(names, cases, strict=True)
        ]
        for name, outcome in zip(names, _read(folder, contents, sound["PNG"]), strict=True):
            counts[name, outcome] += 1
    return counts


def _read(folder: Path, contents: list[bytes], sound: bytes) -> list[str]:
    """Every second file is a sound one, to take the place of a bad one before it."""
    paths = []
    for index, content in enumerate(one for pair in contents for one in (pair, sound)):
        path = folder / str(index)
        path.write_bytes(content)
        paths.append(os.fspath(path))
    looks = [look(path) for path in paths]
    entries = np.array(
        [(one.size, one.changed, *(getattr(one.header, name) for name in ENTRY.names[2:])) for one in looks], ENTRY
    )
    bad = BadImages("substitute", 1)
    bad.expect("train", len(paths))
    files = Files("train", paths, [0] * len(paths), entries, None, (_SIDE, _SIDE, 3), View(_SIDE), 0, bad)
    fetch = files.fetcher(0.5)
    stretches = PositionRanges([(tf.constant(0, tf.int64), len(paths))], 0)
    images, counts, shown = tf.function(lambda at: fetch(at, stretches), autograph=False)(stretches.positions)
    assert images.shape == (len(paths), _SIDE, _SIDE, 3)
    assert counts.numpy().all()
    own = shown.numpy() == np.arange(len(paths))
    assert own[1::2].all()
    kinds = entries["kind"][::2]
    return [
        "decoded" if shown_itself else "refused" if kind == Kind.BAD else "substituted"
        for shown_itself, kind in zip(own[::2], kinds, strict=True)
    ]
