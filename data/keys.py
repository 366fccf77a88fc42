"""64-bit keys from names and numbers: the one place where a seed becomes a key of a random function."""

from __future__ import annotations

import hashlib


def key(*parts: object) -> int:
    """A key in [0, 2**63), the same on every machine and in every version: BLAKE2b of the parts' text.

    Streams with different names (order, augmentation, dropout of a layer) are independent for the same seed.
    """
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
