"""Objects as the files that the client of Google Cloud Storage reads and writes, and checksums as it spells them."""

from __future__ import annotations

import base64
import io
from typing import IO, Any

import google_crc32c


class Source(io.RawIOBase):
    """Bytes as a file.

    Args:
      copies: whether `read` returns bytes, as a file has to. Views of the bytes can be sent as they lie.
    """

    def __init__(self, view: memoryview, copies: bool):
        self._view, self._copies, self._position = view, copies, 0

    def read(self, size: int = -1) -> Any:
        stop = len(self._view) if size is None or size < 0 else self._position + size
        chunk = self._view[self._position : stop]
        self._position += len(chunk)
        return bytes(chunk) if self._copies else chunk

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._view)}[whence] + offset
        return self._position


class Sink(io.RawIOBase):
    """A file that counts the checksum of what is written to it."""

    def __init__(self, file: IO[bytes]):
        self._file, self.checksum = file, google_crc32c.Checksum()

    def write(self, data: Any) -> int:
        self.checksum.update(data)
        return self._file.write(data)


def encoded(checksum: int) -> str:
    """As the bucket writes it: base64 of four bytes, the highest first."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
