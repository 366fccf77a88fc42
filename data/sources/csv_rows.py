"""The rows of a CSV that lists image files, checked. A stranger may have written it. Imports no TensorFlow.

Columns are found by their names in the first line. What stands in a row can be wrong in one way or another; every way is one
sentence with the line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import posixpath
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from convoy import exits
from convoy.bounds import LONGEST_TEXT
from convoy.data.sources.layout import split_of
from convoy.outside import name_in, open_file, printable
from convoy.table import closest, near

REQUIRED, OPTIONAL = ("file", "label"), ("split", "group")
_SEPARATORS = ",;\t"
_LONGEST_LINE = 1 << 16  # characters
_NEAR = 0.75  # how alike another column is that was meant for an optional one: splits, not site


@dataclasses.dataclass(frozen=True)
class Rows:
    """N files of a CSV, in its order.

    Attributes:
      place: the CSV, as sentences call it.
      names: places below the folder at which its names begin; no two are the same.
      labels, splits, groups: what their columns say of each; empty without the column. A file of a validation or test split may
        have the label "".
      lines: where each stands, from 1 on.
      unused: the names of other columns.
    """

    place: str
    names: list[str]
    labels: list[str]
    splits: list[str]
    groups: list[str]
    lines: Sequence[int]
    unused: tuple[str, ...]

    def refuse(self, row: int, what: str) -> NoReturn:
        """BadData for one row; `what` completes "line 7 of rows.csv"."""
        raise exits.BadData(f"line {self.lines[row]:,} of {self.place} {what}.")


def read_rows(path: Path, root: Path) -> Rows:
    """Reads a CSV in UTF-8, separated by commas, semicolons or tabs.

    Args:
      path: the CSV.
      root: the folder at which its names begin, and which none may leave.

    Raises:
      OSError: the system's own.
      exits.BadData: it is no such CSV.
    """
    with open_file(path) as file:
        return _Reader(printable(str(path)), file, root).rows()


class _Reader:
    def __init__(self, place: str, file: BinaryIO, root: Path):
        self.place, self._lines = place, _lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        here = root.absolute(), root.resolve()
        self._roots = [f"{posixpath.normpath(folder).rstrip('/')}/" for folder in here]
        self._root, self._number = printable(str(root)), 1
        self._texts: dict[str, str] = {}  # labels, splits and groups repeat: one object each

    def rows(self) -> Rows:
        try:
            return self._rows()
        except UnicodeDecodeError as error:
            raise exits.BadData(f"{self.place} is not UTF-8 ({error.reason}); save it as UTF-8.") from error
        except csv.Error as error:
            said = printable(str(error))  # which quotes characters of the file
            raise exits.BadData(f"{self.place} does not read as CSV after line {self._number:,}: {said}.") from error

    def _rows(self) -> Rows:
        separator, header = self._header(next(self._lines, ""))
        columns = {name: header.index(name) for name in (*REQUIRED, *OPTIONAL) if name in header}
        unused = tuple(name for name in header if name not in columns)
        reader = csv.reader(self._lines, delimiter=separator, skipinitialspace=True, strict=True)
        cells: dict[str, list[str]] = {name: [] for name in (*REQUIRED, *OPTIONAL)}
        lines = array("Q")
        for row in reader:
            self._number = 1 + reader.line_num
            if not row:
                continue  # an empty line
            if len(row) != len(header):
                self._refuse(f"has {len(row)} cells, and the first line {len(header)}; every line needs as many")
            may_lack_label = "split" in columns and split_of(row[columns["split"]].strip()) in ("validation", "test")
            for name, column in columns.items():
                cells[name].append(self._cell(name, row[column], name == "label" and may_lack_label))
            lines.append(self._number)
        rows = Rows(self.place, cells["file"], cells["label"], cells["split"], cells["group"], lines, unused)
        _check_repeated(rows)
        return rows

    def _header(self, line: str) -> tuple[str, list[str]]:
        """(the separator, the names of the columns) of the first line."""
        candidates = {mark: next(csv.reader([line], delimiter=mark, skipinitialspace=True), []) for mark in _SEPARATORS}
        headers = {mark: [name.strip().lower() for name in names] for mark, names in candidates.items()}
        separator = max(headers, key=lambda mark: (len({*REQUIRED} & {*headers[mark]}), len(headers[mark])))
        header = headers[separator]
        for name in REQUIRED:
            if name not in header:
                hint = near(name, header, f"begin with a line such as {','.join(REQUIRED)}.", "{}")
                rename = f" Rename it to {name}." if hint.endswith("?") else ""
                self._refuse(f"has no column {name}; {printable(hint[:200])}{rename}".rstrip("."))
        for name in OPTIONAL:
            others = [other for other in header if other not in (*REQUIRED, *OPTIONAL)]
            if name not in header and (close := closest(name, others, cutoff=_NEAR)):
                self._refuse(f"has a column {printable(close[0])}; did you mean {name}? Rename it, or take it out")
        for name in (*REQUIRED, *OPTIONAL):
            if header.count(name) > 1:
                self._refuse(f"has {header.count(name)} columns {name}; leave one")
        return separator, header

    def _cell(self, column: str, text: str, may_be_empty: bool = False) -> str:
        text = text.strip()
        if not text and not may_be_empty:
            self._refuse(f"has an empty {column}; fill it in, or take the line out")
        if len(text) > LONGEST_TEXT:
            self._refuse(f"has a {column} of {len(text):,} characters, and {LONGEST_TEXT:,} are the most")
        return self._name(text) if column == "file" else self._texts.setdefault(text, text)

    def _name(self, text: str) -> str:
        """The place of a file below the folder."""
        name = posixpath.normpath(text)
        for root in self._roots:
            name = name.removeprefix(root)
        if name.startswith(("/", "../")) or name == "..":
            self._refuse(
                f"names {printable(text[:200])}, which lies outside of {self._root}; nothing was read there. If you trust this"
                " CSV, give --data_dir=FOLDER, the folder at which its names begin and which holds all files"
            )
        return name_in(name, f"line {self._number:,} of {self.place}")

    def _refuse(self, what: str) -> NoReturn:
        raise exits.BadData(f"line {self._number:,} of {self.place} {what}.")


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file that may hold none: what is longer than any line ends it."""
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith(("\n", "\r")):
            raise csv.Error(f"a line has more than {_LONGEST_LINE:,} characters")
        yield line


def _check_repeated(rows: Rows) -> None:
    """BadData for a file that stands twice."""
    if len(set(rows.names)) == len(rows.names):
        return
    first: dict[str, int] = {}
    for row, name in enumerate(rows.names):
        if (before := first.setdefault(name, row)) != row:
            labels = " and ".join(dict.fromkeys(printable(rows.labels[each]) for each in (before, row)))
            line = f"line {rows.lines[before]:,}"
            rows.refuse(row, f"names {printable(name)}, as {line} does (label {labels}); name a file once")
