"""AVIF, JPEG 2000, JPEG XL and HEIC: read where a decoder is installed, upright once; where none is, a sentence says which."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels
from PIL import Image, ImageFile, ImageOps

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images import decode, formats
from convoy.data.images.jxl import upright_size
from convoy.data.images.listing import image_files
from convoy.data.images.probe import Kind, probe
from convoy.data.images.signatures import FORMATS, format_of
from convoy.data.images.view import View
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.unlabelled import images_shown

KEPT = Path(__file__).with_name(
    "photographs"
)  # files of formats that nothing here can write; its README says what wrote them
HEIGHT, WIDTH = 48, 80
_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([_X * 3, _Y * 5, (_X + _Y) * 2], axis=-1).astype(np.uint8)
COLOUR = Image.fromarray(RGB)
DEEP = (_X * 700 + _Y * 200).astype(np.uint16)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(format: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOUR, format, exif=exif, **options)


WRITTEN = {
    "AVIF": encoded(COLOUR, "AVIF", quality=90),
    "AVIF alpha": encoded(COLOUR.convert("RGBA"), "AVIF", quality=90),
    "AVIF animated": encoded(COLOUR, "AVIF", save_all=True, append_images=[Image.new("RGB", COLOUR.size)]),
    **{
        f"{format} turned {orientation}": turned(format, orientation)
        for format in ("AVIF", "PNG")
        for orientation in range(2, 9)
    },
    "JPEG 2000": encoded(COLOUR, "JPEG2000"),
    "JPEG 2000 lossy": encoded(COLOUR, "JPEG2000", quality_layers=[20], irreversible=True),
    "JPEG 2000 codestream": encoded(COLOUR, "JPEG2000", no_jp2=True),
    "JPEG 2000 grey": encoded(COLOUR.convert("L"), "JPEG2000"),
    "JPEG 2000 grey and alpha": encoded(COLOUR.convert("LA"), "JPEG2000"),
    "JPEG 2000 alpha": encoded(COLOUR.convert("RGBA"), "JPEG2000"),
}


def by_pillow(contents: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB"))


def shown(contents: bytes) -> np.ndarray:
    """The whole image, which must have the size that its header says."""
    header = probe(contents)
    assert header.kind != Kind.BAD, header.reason
    upright = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)
    image = decode.whole(decode.File(tf.constant(contents), int(header.kind), header.orientation, *upright)).numpy()
    assert image.shape == (*upright, 3)
    return image


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_has_the_pixels_that_pillow_gives(name):
    assert np.array_equal(shown(WRITTEN[name]), by_pillow(WRITTEN[name]))


def test_deep_grey_of_jpeg_2000_is_its_high_eight_bits():
    """Pillow's own conversion cuts levels off at 255."""
    image = shown(encoded(Image.fromarray(DEEP), "JPEG2000"))
    assert np.array_equal(image, np.repeat((DEEP >> 8).astype(np.uint8)[..., None], 3, axis=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_is_upright(orientation):
    """The decoder turns it; the file's EXIF says the same, and is not followed a second time."""
    contents = (KEPT / f"turned_{orientation}.jxl").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(RGB)
    stored.info["exif"] = exif.tobytes()
    stored.getexif()[0x0112] = orientation
    assert np.array_equal(shown(contents), np.asarray(ImageOps.exif_transpose(stored)))


def test_a_bare_codestream_of_jpeg_xl_is_read_too():
    assert np.array_equal(shown((KEPT / "bare.jxl").read_bytes()), RGB)


def test_sizes_of_jpeg_xl_by_hand():
    """Every way to write a size, as ISO/IEC 18181-1 has it; each of 3 bytes or more after the signature."""

    def header(*fields: tuple[int, int]) -> io.BytesIO:
        bits = shift = 0
        for value, count in fields:
            bits, shift = bits | value << shift, shift + count
        return io.BytesIO(b"\xff\x0a" + bits.to_bytes(32, "little"))

    default = ((1, 1),)
    turned = ((0, 1), (1, 1), (5, 3))
    assert upright_size(header((1, 1), (5, 5), (0, 3), (9, 5), *default)) == (48, 80)
    assert upright_size(header((0, 1), (0, 2), (99, 9), (0, 3), (1, 2), (8191, 13), *default)) == (100, 8192)
    assert upright_size(header((0, 1), (3, 2), (70000, 30), (7, 3), *default)) == (70001, 140002)
    assert upright_size(header((1, 1), (5, 5), (2, 3), *turned)) == (57, 48)
    with pytest.raises(ValueError, match="too early"):
        upright_size(io.BytesIO(b"\xff\x0a\x01"))


@pytest.mark.parametrize(
    ("begin", "format"),
    [
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafheic\0\0", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x10ftypisom\0\0\0\0avifavif", ""),  # behind the box
        (b"\0\0\0\x14ftypmp42\0\0\0\0mp41", ""),
        (b"", ""),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"Plain text", ""),
    ],
)
def test_a_format_is_told_by_its_first_bytes(begin, format):
    assert format_of(begin) == format


def test_a_folder_whose_photographs_are_all_turned_alike(tmp_path):
    """Then the orientation is a number of the graph, not of each file."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(WRITTEN["PNG turned 6"])
    train = open_dataset(DataConfig(f"folder:{tmp_path}", eval_split="none", cache_bytes=0)).split("train")
    assert np.array_equal(pixels(train)[0], np.rot90(RGB, -1))


# HEIC, whose decoder is not among what Convoy is installed with


@pytest.fixture
def no_heic(monkeypatch):
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    formats._missing.cache_clear()
    yield
    formats._missing.cache_clear()


def test_without_a_decoder_a_sentence_names_the_extra(no_heic, tmp_path):
    sentence = "cannot be decoded: it is a HEIC image; pip install 'keras-convoy[formats]' reads those"
    contents = (KEPT / "upright.heic").read_bytes()
    assert probe(contents).reason == sentence
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.heic").write_bytes(contents)
    with pytest.raises(exits.BadData, match="keras-convoy.formats"):
        open_dataset(DataConfig(f"folder:{tmp_path / 'photos'}", image_size=8))


def test_a_decoder_that_is_installed_later_is_found(no_heic, tmp_path, monkeypatch):
    """The list of headers is kept, but not what could not be read. The decoder is a stand-in that Pillow knows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.heic").write_bytes((KEPT / "upright.heic").read_bytes())
        COLOUR.save(tmp_path / "photos" / name / "2.png")
    config = DataConfig(f"folder:{tmp_path / 'photos'}", image_size=8, bad_images="skip", max_bad_fraction=1)
    assert len(open_dataset(config).bad) == 2

    class StandIn(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode, self.tile = COLOUR.size, "RGB", []
            self.im = COLOUR.im

    module = type(sys)("pi_heif")
    module.register_heif_opener = lambda: Image.register_open("HEIF", StandIn, lambda prefix: prefix[4:8] == b"ftyp")
    monkeypatch.setitem(sys.modules, "pi_heif", module)
    monkeypatch.setitem(Image.OPEN, "HEIF", None)  # and taken out again
    formats._missing.cache_clear()
    dataset = open_dataset(config)
    assert len(dataset.bad) == 0
    images = pixels(dataset.split("train"))
    assert np.array_equal(images[0], images[1])


@pytest.mark.parametrize("name", ["upright", "turned"])
def test_heic_is_upright(name):
    """A photograph turned by the container (irot), whose EXIF says the same, as phones write it."""
    pytest.importorskip("pi_heif", reason="no decoder of HEIC: pip install 'keras-convoy[formats]'")
    image = shown((KEPT / f"{name}.heic").read_bytes()).astype(int)
    expected = RGB if name == "upright" else np.rot90(RGB, -1)
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 3


# All of them


def test_every_format_has_a_decoder_or_a_sentence():
    formats._missing.cache_clear()
    assert [format for format in FORMATS if formats._missing(format)] in ([], ["HEIC"])


@pytest.mark.thorough
@pytest.mark.parametrize("size", [0, 20])
def test_every_way_to_read_a_file_gives_the_same_pixels(tmp_path, monkeypatch, size):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for index, name in enumerate(("AVIF", "AVIF turned 3", "JPEG 2000", "JPEG 2000 grey")):
        (tmp_path / "photos" / "cat" / f"{index}.jpg").write_bytes(WRITTEN[name])  # whatever it is called
    (tmp_path / "photos" / "dog" / "4").write_bytes((KEPT / "turned_3.jxl").read_bytes())

    def images(name: str, **how: object) -> np.ndarray:
        return pixels(open_dataset(DataConfig(name, image_size=size, eval_split="none", **how)).split("train"))

    expected = images(f"folder:{tmp_path / 'photos'}", cache_bytes=0)
    assert np.array_equal(expected, images(f"folder:{tmp_path / 'photos'}"))
    pack(DataConfig(f"folder:{tmp_path / 'photos'}", eval_split="none"), tmp_path / "packed", 1 << 20)
    records = images(f"records:{tmp_path / 'packed'}", cache_bytes=0)
    assert np.abs(expected.astype(int) - records).max() <= (size > 0)  # one is turned before it is resized
    (batch,) = images_shown(image_files([str(tmp_path / "photos")]), expected.shape[1:], View(size), 5)
    assert np.array_equal(expected, batch.images)
