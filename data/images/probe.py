"""The header of an image file: nothing is decoded. Imports no TensorFlow.

Right RGB is what Pillow makes of a file: `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`, the first frame of an
animation; of 16 bits a channel the high eight, where Pillow cuts grey ones off at 255. Of JPEG XL,
which Pillow does not read, it is what libjxl makes.
"""

from __future__ import annotations

import enum
import errno
import io
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from convoy import exits
from convoy.data.images.formats import UNKNOWN, check_decoder, opened
from convoy.data.images.hashing import content_hash, content_hash_of
from convoy.data.images.headers import ordinary
from convoy.data.images.jxl import upright_size
from convoy.data.images.signatures import format_of

# What Pillow calls a decompression bomb: twice a quarter of a GiB of RGB. A larger image is refused by its header.
MAX_PIXELS = 178_956_970
_ANIMATED, _DESCRIBED = 2, 8 | 4  # flags of a WebP file; the latter by EXIF or XMP
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')  # where EXIF says nothing; as Pillow looks for it in all formats
_BEGIN = 16 << 10  # bytes that hold the header of most files
_PIECE = 1 << 20  # of a file that is read to its end
MAX_BYTES = 1 << 30  # of a file: MAX_PIXELS, not compressed
_PATIENCE, _MIN_READ = 32 << 20, 256  # bytes that are read in search of a header, and as which a short read counts
# Large images and strange metadata are judged here. For the process: images are opened in threads of TensorFlow too, and a
# catch_warnings in one thread would undo that of another.
warnings.filterwarnings("ignore", module="PIL")


class Kind(enum.IntEnum):
    """The decoder that decodes a file right."""

    BAD = 0  # no decoder
    JPEG = 1  # tf.io.decode_jpeg: 8 bits, grey or YCbCr
    PNG = 2  # tf.io.decode_png
    WEBP = 3  # tf.io.decode_webp: one frame
    OTHER = 4  # Pillow: AVIF, JPEG 2000, HEIC, CMYK, palettes of BMP, all frames but the first to be left out
    JXL = 5  # tf.io.decode_jxl, which turns the image by itself


class Header(NamedTuple):
    """One file's header."""

    kind: Kind
    height: int = 0  # as stored, before it is turned
    width: int = 0
    orientation: int = 1  # EXIF's, 1 to 8
    reason: str = ""  # of a bad one, to follow its name: cannot be decoded: ...


class Look(NamedTuple):
    """A file, as one reading finds it."""

    size: int  # bytes; -1 for what could not be read, or is no regular file
    changed: int  # when, in ns
    header: Header
    content: float  # its hash, of nothing for what could not be read; NaN if it was not asked for


def probe(source: str | bytes) -> Header:
    """The header of a file, by its path, or of the bytes of one. A file that cannot be used is no error but Kind.BAD."""
    if isinstance(source, str):
        return look(source).header
    return _judged(lambda: _header(source[:_PIECE], io.BytesIO(source)))


def look(path: str, hashed: bool = False) -> Look:
    """Reads a file once: its header, and with `hashed` all of it. No error either."""
    try:
        # Without O_NONBLOCK this would wait without end for a pipe without a writer.
        with open(path, "rb", 0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _unread("it is no regular file")
            if status.st_size > MAX_BYTES:
                size = f"cannot be read: it has {status.st_size:,} bytes, and {MAX_BYTES:,} are the most"
                return Look(status.st_size, status.st_mtime_ns, Header(Kind.BAD, reason=size), content_hash(b""))
            begin, content = file.read(min(_PIECE if hashed else _BEGIN, status.st_size + 1)), math.nan
            if hashed:
                content = content_hash_of(_pieces(begin, file))
            header = _judged(lambda: _header(begin, io.BytesIO(begin) if len(begin) >= status.st_size else file))
            return Look(status.st_size, status.st_mtime_ns, header, content)
    except OSError as error:
        return _unread(exits.reason(error))


def _unread(why: str) -> Look:
    return Look(-1, 0, Header(Kind.BAD, reason=f"cannot be read: {why}"), content_hash(b""))


def _pieces(begin: bytes, file: io.RawIOBase) -> Iterator[bytes]:
    piece: bytes | None = begin
    while piece:
        yield piece
        piece = file.read(_PIECE)


def _judged(read: Callable[[], Header]) -> Header:
    try:
        header = read()
    except UnidentifiedImageError:
        return Header(Kind.BAD, reason=f"cannot be decoded: {UNKNOWN}")
    except Exception as error:  # a damaged file makes a parser raise anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the latter of a place that is none
            raise
        return Header(Kind.BAD, reason=f"cannot be decoded: {str(error).rstrip('.') or type(error).__name__}")
    if not 0 < header.width * header.height <= MAX_PIXELS:
        size = f"{header.width}x{header.height} pixels"
        return Header(Kind.BAD, reason=f"cannot be decoded: it declares {size}, and {MAX_PIXELS:,} are the most")
    return header


def _header(begin: bytes, whole: io.RawIOBase | io.BytesIO) -> Header:
    """That of a file, by its begin if that says enough."""
    if header := ordinary(begin):
        return Header(Kind.JPEG if header.jpeg else Kind.PNG, *header[1:])
    whole.seek(0)
    return {"WebP": _webp, "JPEG XL": _jxl}.get(format_of(begin), _by_pillow)(_Patient(whole))


class _Patient(io.BufferedReader):
    """A file that ends after 32 MiB: without a header until there, Pillow would search on byte by byte. Closes the file."""

    remaining = _PATIENCE

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(self.remaining if size is None or size < 0 else min(size, self.remaining))
        self.remaining = max(0, self.remaining - max(len(content), _MIN_READ))
        return content


def _by_pillow(file: BinaryIO) -> Header:
    image = opened(file)
    width, height = image.size
    kind = Kind.OTHER
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        kind = Kind.JPEG
    elif image.format == "PNG":
        kind = Kind.PNG
    # Not the getexif of PNG files, which decodes the image in search of what may stand behind it.
    return Header(kind, height, width, _orientation(Image.Image.getexif(image)))


def _jxl(file: BinaryIO) -> Header:
    check_decoder("JPEG XL")
    return Header(Kind.JXL, *upright_size(file))


def _webp(file: BinaryIO) -> Header:
    """By hand: Pillow gives the decoder the memory of two whole images when it opens a file."""
    file.seek(12)
    chunks = _chunks(file)
    name, _ = next(chunks, (b"", 0))
    data = file.read(10)
    if name == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (number & 0x3FFF for number in struct.unpack("<2H", data[6:10]))
        return Header(Kind.WEBP, height, width)
    if name == b"VP8L" and data[:1] == b"\x2f":
        bits = int.from_bytes(data[1:5], "little")
        return Header(Kind.WEBP, (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if name != b"VP8X" or len(data) < 10:
        raise ValueError("broken WebP data")
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (4, 7))
    exif, packet = Image.Exif(), b""
    if data[0] & _DESCRIBED:
        for name, size in chunks:
            if name == b"EXIF":
                exif.load(file.read(min(size, 1 << 20)))
            elif name == b"XMP ":
                packet = file.read(min(size, 1 << 20))
    if ExifTags.Base.Orientation not in exif and (match := _XMP.search(packet)):
        exif[ExifTags.Base.Orientation] = int(match[1])
    return Header(Kind.OTHER if data[0] & _ANIMATED else Kind.WEBP, height, width, _orientation(exif))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(name, size) of every chunk of a RIFF file; it stands at the data of each in turn."""
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        after = file.tell() + size + size % 2
        yield name, size
        file.seek(after)


def _orientation(exif: Image.Exif) -> int:
    orientation = exif.get(ExifTags.Base.Orientation)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
