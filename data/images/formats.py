"""The decoders of image formats: which are installed, and what to install for the others. Imports no TensorFlow.

All are under permissive licences or the LGPL. So `pillow-jxl-plugin`, whose wheels hold a crate under the GPL, is not among
them, and the extra `formats` does not name `pillow-heif`, whose wheels hold x265. Where that is installed it is used.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from importlib.metadata import version
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

from convoy.data.images.signatures import BYTES, FORMATS, format_of
from convoy.table import joined

UNKNOWN = f"it is no {joined(FORMATS, 'or')} image"
# Pillow's names; TensorFlow reads the other.
_PILLOW = {
    **{name: name.upper() for name in ("JPEG", "PNG", "GIF", "BMP", "WebP", "AVIF")},
    "JPEG 2000": "JPEG2000",
    "HEIC": "HEIF",
}
_HEIF = ("pi_heif", "pillow_heif")  # modules by which Pillow reads HEIC
_JXL_SINCE = (2, 21)  # of TensorFlow


def opened(file: BinaryIO) -> Image.Image:
    """An image, opened by Pillow. ValueError where its decoder is not installed, UnidentifiedImageError for another file."""
    format = format_of(file.read(BYTES))
    file.seek(0)
    check_decoder(format)
    if format not in _PILLOW:
        raise UnidentifiedImageError(UNKNOWN)
    return Image.open(file, formats=(_PILLOW[format],))


def check_decoder(format: str) -> None:
    """ValueError, with what to install, unless files of one of FORMATS can be read here."""
    if reason := _missing(format):
        raise ValueError(reason)


@functools.cache
def _missing(format: str) -> str:
    if format == "HEIC" and not _registers_heif():
        return "it is a HEIC image; pip install 'keras-convoy[formats]' reads those"
    if format == "AVIF" and not find_spec("PIL._avif"):
        return "it is an AVIF image; pip install 'pillow>=11.3' reads those"
    if format == "JPEG 2000" and not features.check_codec("jpg_2000"):
        return "it is a JPEG 2000 image, and this Pillow was built without OpenJPEG; its wheels read those"
    if format == "JPEG XL" and tuple(map(int, version("tensorflow").split(".")[:2])) < _JXL_SINCE:
        return "it is a JPEG XL image; pip install 'tensorflow>=2.21' reads those"
    return ""


def _registers_heif() -> bool:
    for name in _HEIF:
        with contextlib.suppress(ImportError):
            importlib.import_module(name).register_heif_opener()
            return True
    return False
