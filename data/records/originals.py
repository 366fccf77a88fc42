"""What of an image file is packed: its own bytes where every reader decodes them right, else the same pixels as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from convoy import exits
from convoy.data.images import decode
from convoy.data.images.hashing import content_hash
from convoy.data.images.probe import FORMATS, Kind, probe
from convoy.data.records.format import Packed
from convoy.data.sources.catalogue import header_of, upright

_KEPT = (Kind.JPEG, Kind.PNG)


def original(path: str, header: np.void, label: int) -> Packed:
    """Reads an image file and decodes it once; BadData, by its path, if that fails.

    Grey and colour JPEG and PNG that stand upright stay as they are. The others (CMYK, turned by EXIF, animated, GIF, BMP,
    WebP) become what training on the file itself would see: upright RGB.

    Args:
      path: the file.
      header: its convoy.data.sources.catalogue.ENTRY.
      label: its class.
    """
    try:
        content = Path(path).read_bytes()
        if (len(content), probe(content)) != (header["size"], header_of(header)):
            raise ValueError("it has changed since its header was read")
        if header["kind"] in _KEPT and header["orientation"] == 1:
            packed, kind = content, int(header["kind"])
            _check(content, kind)
        else:
            packed, kind = _png(content, header), Kind.PNG
    except (OSError, ValueError, SyntaxError, tf.errors.OpError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        raise exits.BadData(
            f"cannot read the image {path}: {why.splitlines()[0].rstrip('.')}; replace or remove it."
        ) from error
    return Packed(packed, kind, (*upright(header), decode.CHANNELS), label, content_hash(content))


def _check(content: bytes, kind: int) -> None:
    if kind == Kind.PNG:
        tf.io.decode_png(content)  # which is what reads it later, and less forgiving than Pillow
        return
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        image.draft(None, (1, 1))  # of a JPEG only as much as shows that it is whole
        image.load()


def _png(content: bytes, header: np.void) -> bytes:
    height, width = upright(header)
    facts = (int(header["kind"]), int(header["orientation"]), height, width)
    pixels = decode.whole(decode.File(tf.constant(content), *(tf.constant(fact, tf.int32) for fact in facts)))
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
