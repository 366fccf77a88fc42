"""A CSV that a stranger wrote: it is refused in a sentence, or read, and nothing outside of its folder is touched."""

from __future__ import annotations

import csv
import io
import os
import random
from pathlib import Path

import pytest

import mutations
from convoy import exits
from convoy.data.sources.csv_rows import read_rows

ROWS = [["file", "label", "split", "group"]] + [
    [f"{label}/{row}.jpg", label, ("train", "test")[row % 2], f"p{row}"] for label in ("cat", "dog") for row in range(4)
]


def outcome(path: Path) -> list[str]:
    """The names that a CSV lists; none if it is refused, in a printable sentence."""
    try:
        return read_rows(path, path.parent).names
    except exits.BadData as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < 1500
    return []


def hostile(chance: random.Random) -> bytes:
    rows = [list(row) for row in ROWS]
    kind = chance.randrange(6)
    if kind < 3:
        row = chance.randrange(len(rows))
        rows[row][chance.randrange(4)] = str(mutations.name(chance, rows[row][0])).encode("utf-8", "ignore").decode()
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=chance.choice(",;\t")).writerows(rows)
    data = buffer.getvalue().encode(chance.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    at = chance.randrange(len(data) + 1)
    if kind == 3:
        return data[:at] + chance.choice([b"\0", b'"', b"\xff", b"\r", b"\n", b"\x1b[2J", b"\0" * 5000]) + data[at:]
    if kind == 4:
        return data[:at] + chance.choice([b"x", b'"x\n', b","]) * 70_000 + data[at:]
    return mutations.torn(data, chance) if kind == 5 else data


@mutations.counts(quick=300)
def test_hostile_rows_are_refused_or_name_files_below_the_folder(tmp_path, count):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "rows.csv"
    read = 0
    for number in range(count):
        with mutations.case(mutations.SEED, number) as chance, mutations.untouched(tmp_path, folder):
            path.write_bytes(hostile(chance))
            names = outcome(path)
            read += bool(names)
            for name in names:
                assert os.path.normpath(folder / name).startswith(f"{folder}/"), name
                assert name.isprintable()
    assert read > count // 20


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "..", "/", "//x", "folder/\0", "a\\b", "a\nb.jpg"]
)
def test_a_name_that_leads_outside_is_refused(tmp_path, name):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["a.jpg", "cat"], [name, "dog"]])
    with pytest.raises(exits.BadData, match="nothing was read"):
        read_rows(path, tmp_path)


def test_a_csv_that_never_ends_is_none(tmp_path):
    """Half a TiB of zeros, as a sparse file, and a pipe without a writer."""
    path = tmp_path / "rows.csv"
    with path.open("wb") as file:
        file.write(b"file,label\n")
        file.truncate(1 << 39)
    with pytest.raises(exits.BadData, match="a line has more than 65,536 characters"):
        read_rows(path, tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(exits.BadData, match="no regular file"):
        read_rows(path, tmp_path)
