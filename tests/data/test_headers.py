"""Headers by hand say what Pillow says, or nothing; a scan opens each file once, and a second one none."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoy.data.config import DataConfig
from convoy.data.images import headers, probe
from convoy.data.images.hashing import content_hash
from convoy.data.images.probe import Kind
from convoy.data.sources import catalogue
from convoy.data.sources.opening import open_dataset
from convoy.data.splits import train_and_eval
from support import DATA

SEED = 14


def encoded(format: str, mode: str = "RGB", orientation: int = 0, **options: object) -> bytes:
    pixels = np.random.default_rng(SEED).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "A maker of cameras"  # stands behind the entries, as all long values do
    exif[0x0132] = "2026:01:02 03:04:05"
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format, **({"exif": exif} if orientation >= 0 else {}), **options)
    return file.getvalue()


SOUND = {
    "plain JPEG": encoded("JPEG", orientation=-1),
    "grey JPEG": encoded("JPEG", "L", orientation=-1),
    "progressive JPEG": encoded("JPEG", orientation=-1, progressive=True, comment=b"a comment"),
    "JPEG with a profile": encoded("JPEG", orientation=-1, icc_profile=bytes(300), dpi=(72, 72)),
    "JPEG with EXIF": encoded("JPEG"),
    **{f"JPEG turned {turned}": encoded("JPEG", orientation=turned) for turned in range(1, 9)},
    "plain PNG": encoded("PNG", orientation=-1),
    "grey PNG": encoded("PNG", "L", orientation=-1, dpi=(72, 72)),
    "PNG with alpha": encoded("PNG", "RGBA", orientation=-1),
    "deep PNG": encoded("PNG", "I;16", orientation=-1),
}
LEFT = {
    "CMYK": encoded("JPEG", "CMYK", orientation=-1),
    "palette": encoded("PNG", "P", orientation=-1),
    "turned PNG": encoded("PNG", orientation=6),
    "XMP": encoded("JPEG", orientation=-1, xmp=b"tiff:Orientation=\"6\""),
    "GIF": encoded("GIF", orientation=-1),
    "nothing": b"",
}  # fmt: skip


def by_pillow(content: bytes) -> probe.Header | None:
    try:
        return probe._by_pillow(io.BytesIO(content))
    except Exception:  # a damaged file makes it raise anything
        return None


def by_hand(content: bytes) -> probe.Header | None:
    found = headers.ordinary(content)
    return found and probe.Header(Kind.JPEG if found.jpeg else Kind.PNG, *found[1:])


@pytest.mark.parametrize("name", SOUND)
def test_ordinary_headers_equal_pillows(name):
    assert by_hand(SOUND[name]) == by_pillow(SOUND[name]) is not None
    assert by_hand(SOUND[name][:20]) is None


@pytest.mark.parametrize("name", LEFT)
def test_unusual_headers_are_left_to_pillow(name):
    assert headers.ordinary(LEFT[name]) is None


def test_a_damaged_header_equals_pillows_or_is_left_to_it():
    sound, found = list(SOUND.values()), 0
    for case in range(6000):
        chance = np.random.default_rng((SEED, case))
        content = bytearray(sound[case % len(sound)])
        end = min(len(content), 700)
        for _ in range(int(chance.integers(1, 4))):
            at = int(chance.integers(2, end))
            if chance.random() < 0.2:
                content[at : at + 2] = struct.pack(">H", int(chance.integers(65536)))
            else:
                content[at] ^= 1 << int(chance.integers(8))
        if chance.random() < 0.1:
            del content[int(chance.integers(len(content))) :]
        if (ours := by_hand(bytes(content))) is not None:
            found += 1
            assert ours == by_pillow(bytes(content)), f"case {case} of seed {SEED}"
    assert found > 1000


def test_most_photographs_are_ordinary():
    if not (DATA / "imagenet-sample").is_dir():
        pytest.skip(f"no photographs in {DATA}/imagenet-sample (CONVOY_TEST_DATA)")
    contents = [path.read_bytes() for path in sorted((DATA / "imagenet-sample").iterdir())]
    found = [by_hand(content) for content in contents]
    assert sum(one is not None for one in found) > 0.85 * len(found)
    for ours, content in zip(found, contents, strict=True):
        assert ours is None or ours == by_pillow(content)


def test_a_scan_opens_every_file_once_and_the_next_one_none(photographs: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened: list[tuple[str, bool]] = []

    def look(path: str, hashed: bool, look=probe.look):
        opened.append((path, hashed))
        return look(path, hashed)

    monkeypatch.setattr(catalogue, "look", look)
    by_hash = DataConfig(f"folder:{photographs}", image_size=8, eval_split="hash:0.3")
    for config, expected in (
        (DataConfig(f"folder:{photographs}", image_size=8, eval_split="none"), [False] * 24),
        (by_hash, [True] * 24),  # headers alone were not enough
        (by_hash, []),
    ):
        opened.clear()
        train, held_out = train_and_eval(config, open_dataset(config))
        assert sorted({path for path, _ in opened}) == sorted(path for path, _ in opened)
        assert [hashed for _, hashed in opened] == expected
    assert held_out is not None
    hashes = dict(zip(train.paths, train.content_hashes(), strict=True))
    assert hashes == {path: content_hash(Path(path).read_bytes()) for path in train.paths}


def test_a_large_file_is_hashed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_PIECE", 100)
    content = encoded("JPEG", orientation=6, icc_profile=bytes(2000))
    (tmp_path / "0.jpg").write_bytes(content)
    found = probe.look(str(tmp_path / "0.jpg"), hashed=True)
    assert found.content == content_hash(content)
    assert found.header == probe.Header(Kind.JPEG, 9, 13, 6)
    assert found.size == len(content)


def test_an_unreadable_file_is_looked_at_again(photographs, tmp_path, monkeypatch):
    """An error of the disk may pass, and changes neither size nor time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = DataConfig(f"folder:{photographs}", image_size=8, eval_split="hash:0.3", bad_images="skip")
    with monkeypatch.context() as patched:
        failed = str(photographs / "cat" / "003.png")
        patched.setattr(
            probe, "_pieces", lambda begin, file, kept=probe._pieces: failing(file, failed) or kept(begin, file)
        )
        dataset = open_dataset(config)
    assert dataset.bad._reasons == {("train", failed): "cannot be read: input/output error"}
    assert len(open_dataset(config).bad) == 0


def failing(file: io.FileIO, path: str) -> None:
    if file.name == path:
        raise OSError(5, "Input/output error")
