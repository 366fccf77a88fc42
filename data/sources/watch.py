"""Files that others may replace while a run draws from them: what they were by their headers, and what they are. Imports no
TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convoy.data.images.probe import Header, Kind, look
from convoy.data.sources.catalogue import header_of, stamp


class Watch:
    """Image files and what their headers said when they were read.

    A file is another one if its length, or what its header says, is not what it was. One whose time alone has changed is
    looked at again; one that has kept its length and time is believed to be the same, as the list of headers does.

    Args:
      paths: the files.
      headers: convoy.data.sources.catalogue.ENTRY [N]; a time of change that turns out to mean nothing is brought up to date.
    """

    def __init__(self, paths: Sequence[str], headers: np.ndarray):
        self.paths, self.headers = paths, headers

    def changes(self, rows: np.ndarray) -> dict[int, str]:
        """Of these files, those that are other ones, and how (see `change`). Looks at the time of each: microseconds."""
        then = zip(rows.tolist(), *(self.headers[name][rows].tolist() for name in ("size", "changed")), strict=True)
        suspects = [row for row, *stamped in then if stamp(self.paths[row]) != tuple(stamped)]
        return {row: how for row in suspects if (how := self.change(row))}

    def change(self, row: int) -> str:
        """How a file is another one, to follow its name in a sentence; empty if it is the same."""
        then, now = self.headers[row], look(self.paths[row])
        if now.header.kind == Kind.BAD:
            return "" if then["kind"] == Kind.BAD else now.header.reason
        header = header_of(then)
        if now.size != then["size"] or now.header != header:
            was, is_ = _described(int(then["size"]), header), _described(now.size, now.header)
            return f"has changed since its header was read: it was {was}, and is {is_}"
        self.headers["changed"][row] = now.changed
        return ""


def _described(size: int, header: Header) -> str:
    turned = f", turned by EXIF's {header.orientation}" if header.orientation != 1 else ""
    format = "another format" if header.kind == Kind.OTHER else header.kind.name
    return f"{format} of {header.width}x{header.height} pixels{turned}, {size:,} bytes"
