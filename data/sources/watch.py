"""Image files that may be replaced while a run reads them: compares each with its header of before. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convoy.data.images.probe import Header, Kind, look
from convoy.data.sources.catalogue import header_of, stamp


class Watch:
    """Image files, and their headers when they were first read.

    A file was replaced if its length or its header has changed. If only its time has changed, its header is read again. A file
    with the same length and time is taken for the same, as in the catalogue of headers.

    Args:
      paths: the files.
      headers: convoy.data.sources.catalogue.ENTRY [N]; the time of change is updated where nothing else has changed.
    """

    def __init__(self, paths: Sequence[str], headers: np.ndarray):
        self.paths, self.headers = paths, headers

    def changes(self, rows: np.ndarray) -> dict[int, str]:
        """Those of these files that were replaced, and how (see `change`). Reads the time of each: microseconds."""
        stamps = zip(rows.tolist(), *(self.headers[name][rows].tolist() for name in ("size", "changed")), strict=True)
        suspects = [row for row, *stamped in stamps if stamp(self.paths[row]) != tuple(stamped)]
        return {row: how for row in suspects if (how := self.change(row))}

    def change(self, row: int) -> str:
        """How a file was replaced, to follow its name in a sentence; empty if it was not."""
        before, now = self.headers[row], look(self.paths[row])
        if now.header.kind == Kind.BAD:
            return "" if before["kind"] == Kind.BAD else now.header.reason
        header = header_of(before)
        if now.size != before["size"] or now.header != header:
            old, new = _described(int(before["size"]), header), _described(now.size, now.header)
            return f"has changed since its header was read: it was {old}, and is {new}"
        self.headers["changed"][row] = now.changed
        return ""


def _described(size: int, header: Header) -> str:
    turned = f", turned by EXIF's {header.orientation}" if header.orientation != 1 else ""
    format = "another format" if header.kind == Kind.OTHER else header.kind.name
    return f"{format} of {header.width}x{header.height} pixels{turned}, {size:,} bytes"
