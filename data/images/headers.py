"""The headers of ordinary JPEG and PNG files, by hand: Pillow takes ten times as long, and holds Python's lock meanwhile.

What is unusual in any way is left to Pillow, so that both say the same of every file.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

_SCAN, _FRAMES = 0xDA, (0xC0, 0xC1, 0xC2)  # start of the pixels; baseline, extended and progressive frames
_TABLES, _EXIF, _ADOBE, _COMMENT = 0xDB, 0xE1, 0xEE, 0xFE
# Marker -> bytes that its segment has at least. JFIF, Huffman tables, restarts, Adobe's colours and comments move no pixel.
_PASSED = {0xE0: 7, 0xC4: 0, 0xDD: 0, _ADOBE: 7, _COMMENT: 0}
_PROFILE, _PROFILE_HEAD = 0xE2, b"ICC_PROFILE\0"
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of TIFF's types
_ORIENTATION, _SHORT = 0x112, 3

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZES = {b"sRGB": 1, b"gAMA": 4, b"pHYs": 9, b"cHRM": 32}  # chunks before the pixels that move none
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 4: (8, 16), 6: (8, 16)}  # colour type -> bits; palettes are Pillow's


class Ordinary(NamedTuple):
    """What the header of an ordinary file says."""

    jpeg: bool  # else PNG
    height: int  # as stored
    width: int
    orientation: int  # EXIF's


def ordinary(begin: bytes) -> Ordinary | None:
    """The header at the begin of a file; None where Pillow must look at it."""
    if begin[:3] == b"\xff\xd8\xff":
        return _jpeg(begin)
    return _png(begin) if begin[:8] == _PNG else None


def _jpeg(begin: bytes) -> Ordinary | None:
    at, orientation = 2, 0
    shape: tuple[int, int] | None = None
    while at + 4 <= len(begin):
        mark, marker, length = struct.unpack_from(">BBH", begin, at)
        at, first = at + 2 + length, at + 4
        if mark != 0xFF or length < 2 or at > len(begin):
            return None
        if marker in _PASSED:
            if length < 2 + _PASSED[marker]:
                return None
        elif marker == _TABLES:
            if (length - 2) % 65 or any(precision > 15 for precision in begin[first:at:65]):
                return None
        elif marker == _PROFILE:
            if length < 16 or not begin.startswith(_PROFILE_HEAD, first):
                return None
        elif marker == _EXIF:
            orientation = 0 if orientation else _orientation(begin[first:at])
            if not orientation:
                return None
        elif marker in _FRAMES and not shape and length >= 11:
            bits, height, width, layers = struct.unpack_from(">BHHB", begin, first)
            if bits != 8 or layers not in (1, 3) or length != 8 + 3 * layers or not height * width:
                return None
            shape = (height, width)
        else:
            return Ordinary(True, *shape, orientation or 1) if marker == _SCAN and shape else None
    return None


def _orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where it says nothing; 0 where Pillow must look at it."""
    tiff = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if exif[:6] != b"Exif\0\0" or order is None or len(tiff) < 10:
        return 0
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 0
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    orientation = 0
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if at + 12 > len(tiff):
            return 0
        tag, kind, values, place = struct.unpack_from(f"{order}HHII", tiff, at)
        size = values * _UNITS.get(kind, 0)
        if not size or (size > 4 and place + size > len(tiff)):
            return 0
        if tag == _ORIENTATION:
            (value,) = struct.unpack_from(f"{order}H", tiff, at + 8)
            if orientation or kind != _SHORT or values != 1 or not 1 <= value <= 8:
                return 0
            orientation = value
    return orientation or 1


def _png(begin: bytes) -> Ordinary | None:
    at = len(_PNG)
    shape: tuple[int, int] | None = None
    while at + 12 <= len(begin):
        length, name = struct.unpack_from(">I4s", begin, at)
        if name == b"IDAT":
            return Ordinary(False, *shape, 1) if shape else None
        end = at + 8 + length
        if end + 4 > len(begin) or length != (_PNG_SIZES.get(name) if shape else 13):
            return None
        if zlib.crc32(begin[at + 4 : end]) != struct.unpack_from(">I", begin, end)[0]:
            return None
        if not shape:
            width, height, bits, color, compression, filters, interlaced = struct.unpack_from(">IIBBBBB", begin, at + 8)
            if name != b"IHDR" or bits not in _PNG_DEPTHS.get(color, ()) or compression or filters or interlaced > 1:
                return None
            if not height * width:
                return None
            shape = (height, width)
        at = end + 4
    return None
