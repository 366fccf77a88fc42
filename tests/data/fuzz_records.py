"""One thing for a fuzz harness to call: packed records with one of their files changed, opened and read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from convoy import exits
from data.config import DataConfig
from data.sources import open_dataset


def read_all(root: Path, cache_bytes: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (images, labels) of records:ROOT, read as a run reads them; exits.ConvoyError if they are refused."""
    dataset = open_dataset(DataConfig(f"records:{root}", cache_bytes=cache_bytes))
    found = {}
    for split in dataset.split_names:
        examples = dataset.split(split)
        try:
            fetch = tf.function(examples.fetcher(), autograph=False)
            images, counts = fetch(tf.range(len(examples), dtype=tf.int64), None)
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
