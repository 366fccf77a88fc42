"""The size of a JPEG XL file, from its header, by hand (ISO/IEC 18181-1; the container: 18181-2). Imports nothing heavy.

TensorFlow's decoder tells no size beforehand. It turns the image as the header asks for, whatever EXIF says beside that.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_BYTES = 32  # that hold what is read of the codestream
_MAX_BOXES = 64  # before the codestream
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height


class Size(NamedTuple):
    """Of an image as it is decoded: upright."""

    height: int
    width: int


def upright_size(file: BinaryIO) -> Size:
    """Reads a header; ValueError for what is none."""
    bits = _Bits(_codestream(file))
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else _side(bits, small)
    is_default = bits.take(1)
    has_more = not is_default and bits.take(1)
    if has_more and bits.take(3) >= 4:  # EXIF's orientation, less 1
        height, width = width, height
    return Size(height, width)


def _side(bits: _Bits, small: int) -> int:
    return 8 * (1 + bits.take(5)) if small else 1 + bits.take(_SIDE_BITS[bits.take(2)])


def _codestream(file: BinaryIO) -> bytes:
    """What follows the signature of the codestream, or of its first part; nothing where there is none."""
    begin = file.read(len(_CONTAINER))
    if begin.startswith(_CODESTREAM):
        return begin[len(_CODESTREAM) :] + file.read(_BYTES)
    for _ in range(_MAX_BOXES):
        size, name = int.from_bytes(file.read(4)), file.read(4)
        rest = int.from_bytes(file.read(8)) - 16 if size == 1 else size - 8
        if name in (b"jxlc", b"jxlp"):
            content = file.read(_BYTES)[4 if name == b"jxlp" else 0 :]
            return content[len(_CODESTREAM) :] if content.startswith(_CODESTREAM) else b""
        if rest < 0:  # the last box, or none
            break
        file.seek(rest, 1)
    return b""


class _Bits:
    """Numbers of a few bits, from the lowest bit of the first byte on."""

    def __init__(self, content: bytes):
        self._bits, self._rest = int.from_bytes(content, "little"), 8 * len(content)

    def take(self, count: int) -> int:
        if count > self._rest:
            raise ValueError("its header ends too early")
        number = self._bits & ((1 << count) - 1)
        self._bits, self._rest = self._bits >> count, self._rest - count
        return number
