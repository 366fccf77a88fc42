"""The boundary: names, files, documents and text that somebody else wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convoy import exits, outside

BAD_NAMES = ["", "/etc/passwd", "..", "a/../b", "../a", "a/..", "a//b", "a/", "./a", "a/.", "a\\b", "a\0b", "a\nb", "\x1b[2J",
             "\u202egpj.exe", "\udcff", "x" * 256, "a/" * 600 + "b", None, 3, ["a"], b"a"]  # fmt: skip


@pytest.mark.parametrize("text", BAD_NAMES, ids=lambda text: ascii(text)[:20])
def test_a_name_that_leads_outside_is_refused(text):
    with pytest.raises(exits.BadData) as raised:
        outside.name_in(text, "gs://bucket/MANIFEST.json")
    assert "gs://bucket/MANIFEST.json" in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("text", ["a", "a/b.npz", "checkpoints/00000040.2/model.npz", "..a", "a..", "ü/日本"])
def test_a_name_inside_stays_as_it_is(text):
    assert outside.name_in(text, "here") == text


def test_below_checks_every_part():
    assert outside.below(outside.Name("a"), "b", "c") == "a/b/c"
    with pytest.raises(exits.BadData):
        outside.below(outside.Name("a"), "..", "c")


def test_a_fifo_a_device_and_a_folder_are_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(exits.BadData, match="no regular file"):
            outside.read_file(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        outside.read_file(tmp_path / "loop")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    assert outside.read_file(tmp_path / "file", max_bytes=5) == b"12345"
    with pytest.raises(exits.BadData, match="more than 4 bytes"):
        outside.read_file(tmp_path / "file", max_bytes=4)


BAD_DOCUMENTS = [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": NaN}', b"1e999", b"-Infinity", b"1" * 5000]


@pytest.mark.parametrize("data", BAD_DOCUMENTS, ids=lambda data: repr(data[:12]))
def test_text_that_is_no_json_is_bad_data(data):
    with pytest.raises(exits.BadData, match=r"^here does not read as JSON"):
        outside.parse_json(data, "here")


def test_records_may_hold_nan_and_infinity():
    assert outside.parse_json("[NaN]", "here", finite=False)[0] != 0
    with pytest.raises(exits.BadData, match="a list where an object"):
        outside.parse_object("[]", "here")


def test_text_for_a_terminal_has_no_control_characters():
    assert outside.printable("\x1b[31mred\u202e\x9b\ud800") == r"\x1b[31mred\u202e\x9b\ud800"
    assert outside.printable("a\nb", keep="\n") == "a\nb"
    assert outside.printable("naïve 日本") == "naïve 日本"
