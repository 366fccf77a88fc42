"""crc32c (Castagnoli) of bytes, as Google Cloud Storage and TFRecord count it."""

from __future__ import annotations

import google_crc32c
import numpy as np

from convoy.store.protocol import Data


def crc32c(data: Data) -> int:
    """The checksum, 32 bits. Without a copy: the library takes arrays that can be written to, but no such memoryview."""
    return google_crc32c.value(np.frombuffer(data, np.uint8) if len(data) else b"")
