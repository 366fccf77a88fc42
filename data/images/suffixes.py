"""What is an image: by the suffix of a file's name where that is known, else by its first bytes. Imports nothing heavy."""

from __future__ import annotations

import os
import re

from convoy import exits
from convoy.data.images.signatures import BYTES, format_of
from convoy.listing import AWAY
from convoy.outside import open_file

# Files with these names are images, whatever stands in them: one that cannot be decoded is a bad image, not another file.
SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".jpe", ".jfif", ".jif", ".mpo", ".apng", ".dib",
    ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl",
)  # fmt: skip
# Files with these names are none, although some begin as one: a video's thumbnail, a copy that is older or not finished.
_OTHERS = re.compile(
    "txt|md|rst|rtf|pdf|docx?|xlsx?|ods|csv|tsv|jsonl?|ndjson|xml|xmp|ya?ml|toml|ini|cfg|conf|log|html?|css|js|py|ipynb|sh|bat"
    "|mat|np[yz]|pkl|pickle|h5|hdf5|pth?|onnx|tfrecord|parquet|arrow|feather|[lm]?db|sqlite|names|zip|t?gz|bz2|xz|zst|7z|rar|tar"
    "|iso|exe|dll|so|mp3|wav|flac|ogg|m4[av]|mp4|mov|avi|mkv|webm|mpe?g|3gp|mts|lrv|thm|svg|psd|ai|eps|xcf|aae|lnk|url|md5|sha1"
    "|sha256|crc|bak|orig|old|te?mp|part(ial)?|crdownload|swp|lock|(jpe?g|png|heic)(_original|~)"
)
_BITMAP_HEADS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the header behind that of a BMP file


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry, which is no folder, is an image. It opens the file only if the name says nothing.

    Raises:
      OSError: the storage is unavailable.
    """
    name = entry.name.lower()
    if name.endswith(SUFFIXES):
        return True
    _, dot, suffix = name.rpartition(".")
    return not (dot and _OTHERS.fullmatch(suffix)) and _begins_as_image(entry.path)


def _begins_as_image(path: str) -> bool:
    try:
        with open_file(path) as file:
            begin = file.read(BYTES)
    except exits.BadData:  # a pipe or a device
        return False
    except OSError as error:
        if error.errno in AWAY:
            raise
        return False
    format = format_of(begin)
    # Texts begin with BM, too.
    return bool(format) and (format != "BMP" or int.from_bytes(begin[14:18], "little") in _BITMAP_HEADS)
