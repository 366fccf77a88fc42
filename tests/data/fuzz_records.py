"""Packed records with one of their files damaged, opened and read whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset


def read_all(root: Path, cache_bytes: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (images, labels) of records:ROOT, read as a run reads them; exits.ConvoyError if they are refused."""
    dataset = open_dataset(DataConfig(f"records:{root}", cache_bytes=cache_bytes))
    found = {}
    for split in dataset.split_names:
        examples = dataset.split(split)
        try:
            fetch = tf.function(examples.fetcher(), autograph=False)
            images, counts, _ = fetch(tf.range(len(examples), dtype=tf.int64), None)
        except tf.errors.OpError as error:
            if sentence := examples.explain():
                raise exits.BadData(sentence) from error
            raise
        assert counts.numpy().all()
        found[split] = images.numpy(), examples.labels
    return found


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Some bits flipped, some bytes cut off or put in, or a stretch of them zeroed."""
    changed = bytearray(content)
    where = int(generator.integers(len(changed)))
    match generator.integers(4):
        case 0:
            changed[where] ^= 1 << int(generator.integers(8))
        case 1:
            del changed[where:]
        case 2:
            changed[where:where] = generator.bytes(int(generator.integers(1, 9)))
        case _:
            changed[where : where + 64] = bytes(len(changed[where : where + 64]))
    return bytes(changed)


def outcome(root: Path, name: str, content: bytes) -> str:
    """`decoded` or `refused`, once the file `name` of packed records holds `content`; the file is put back.

    Raises AssertionError where what is read differs from what the unchanged records hold.
    """
    path = root / name
    original, before = path.read_bytes(), read_all(root)
    path.write_bytes(content)
    try:
        after = read_all(root)
    except exits.ConvoyError:
        return "refused"
    finally:
        path.write_bytes(original)
    for split, values in before.items():
        assert all(np.array_equal(one, other) for one, other in zip(values, after[split], strict=True)), name
    return "decoded"


def outcomes(folder: Path, first: int, count: int, seed: int) -> Counter[tuple[str, str]]:
    """(kind of file, outcome) of the cases first .. first + count - 1, each a function of (seed, its number) alone.

    decoded: every record is shown as it was packed; substituted: one is found damaged when it is read, and another shown,
    as --bad_images=substitute asks for; refused: the set is not opened. Nothing else is ever shown.
    """
    root, counts = folder / "packed", Counter[tuple[str, str]]()
    if not root.exists():
        pack(DataConfig("synthetic:8x6x3:3:40"), root, 12 * 8 * 6 * 3)
    sound = read_all(root)
    names = sorted(path.name for path in root.iterdir() if path.stat().st_size)
    for case in range(first, first + count):
        generator, path = np.random.default_rng((seed, case)), root / names[case % len(names)]
        original = path.read_bytes()
        path.write_bytes(mutated(original, generator))
        try:
            counts[path.suffix, _read(root, sound)] += 1
        finally:
            path.write_bytes(original)
    return counts


def _read(root: Path, sound: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    result = "decoded"
    try:
        dataset = open_dataset(
            DataConfig(f"records:{root}", cache_bytes=0, bad_images="substitute", max_bad_fraction=1)
        )
        for split, (images, labels) in sound.items():
            examples = dataset.split(split)
            positions = PositionRanges([(tf.constant(0, tf.int64), len(labels))], 0)
            found, counted, shown = (one.numpy() for one in examples.fetcher()(positions.positions, positions))
            assert counted.all(), split
            assert np.array_equal(found, images[shown]), split
            assert np.array_equal(examples.labels, labels), split
            if not np.array_equal(shown, np.arange(len(labels))):
                result = "substituted"
    except exits.ConvoyError:
        return "refused"
    return result
