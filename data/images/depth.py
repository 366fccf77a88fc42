"""Whether deep image files use all of their bits: photographs of 12 in files of 16 look black."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from convoy import exits
from convoy.data.images.decoders import PNG_DEPTH
from convoy.data.images.signatures import BYTES, format_of
from convoy.data.images.view import DEEP
from convoy.outside import open_file

_BEGUN, _READ = 64, 4  # files whose first bytes are looked at, and deep ones that are read
_DEPTHS = (8, 12, 14)  # that cameras and scanners have


def is_deep(begin: bytes) -> bool:
    """Whether a file is a PNG of DEEP bits a sample, by its first BYTES."""
    return format_of(begin) == "PNG" and begin[PNG_DEPTH : PNG_DEPTH + 1] == bytes([DEEP])


def note_unused_bits(name: str, paths: Sequence[str]) -> None:
    """Says so, once, if the deep ones among a data set's files leave their highest bits unused; looks at a few."""
    largest = files = 0
    for path in paths[:: max(1, -(-len(paths) // _BEGUN))]:
        level = _largest_level(path)
        largest, files = max(largest, level), files + (level > 0)
        if largest >= 1 << _DEPTHS[-1] or files == _READ:
            break
    depth = next((depth for depth in _DEPTHS if largest < 1 << depth), DEEP)
    if files and depth < DEEP:
        print(
            f"Note: no level is above {largest:,} in {files} of the image files of {name} with {DEEP} bits, whose levels go to"
            f" {(1 << DEEP) - 1:,}: they look dark. --bit_depth={depth} shows them bright."
        )


def _largest_level(path: str) -> int:
    """Of a deep file; 0 for another, or one that cannot be read, which is said elsewhere."""
    try:
        with open_file(path) as file:
            begin = file.read(BYTES)
            if not is_deep(begin):
                return 0
            content = begin + file.read()
        return int(tf.reduce_max(tf.cast(tf.io.decode_png(content, dtype=tf.uint16), tf.int32)))
    except (OSError, exits.BadData, tf.errors.OpError):
        return 0
