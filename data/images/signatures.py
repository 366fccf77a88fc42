"""The formats of images, by the first bytes of a file. Imports nothing heavy."""

from __future__ import annotations

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP", "AVIF", "JPEG 2000", "HEIC", "JPEG XL")
BYTES = 64  # of a file that tell its format
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",  # in its box, and without
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",  # the same
    b"\xff\x0a": "JPEG XL",
}
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_EITHER = {b"mif1", b"msf1"}  # which are compatible with one of the others


def format_of(begin: bytes) -> str:
    """One of FORMATS, by the first BYTES of a file; "" for a file of another kind."""
    if begin[:4] == b"RIFF":
        return "WebP" if begin[8:12] == b"WEBP" else ""
    if begin[4:8] == b"ftyp":
        return _by_brands(begin)
    return next((format for beginning, format in _BEGINNINGS.items() if begin.startswith(beginning)), "")


def _by_brands(begin: bytes) -> str:
    major, end = begin[8:12], min(int.from_bytes(begin[:4]), BYTES)
    brands = {major} | ({begin[at : at + 4] for at in range(16, end, 4)} if major in _EITHER else set())
    if brands & _AVIF:
        return "AVIF"
    return "HEIC" if brands & (_HEIC | _EITHER) else ""
