"""A number of a content alone, by which examples are told apart. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def content_hash(content: bytes) -> float:
    """BLAKE2b of the bytes as a fraction in [0, 1)."""
    return content_hash_of((content,))


def content_hash_of(pieces: Iterable[bytes]) -> float:
    """That of a content in pieces."""
    digest = hashlib.blake2b(digest_size=6)
    for piece in pieces:
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little") / 2**48
