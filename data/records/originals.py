"""What of an image file is packed: its own bytes where every reader decodes them right, else the same pixels as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from convoy import exits
from convoy.data.images import decode, decoders
from convoy.data.images.depth import is_deep
from convoy.data.images.formats import opened
from convoy.data.images.hashing import content_hash
from convoy.data.images.probe import Kind, probe
from convoy.data.images.view import DEEP
from convoy.data.records.format import Packed
from convoy.data.sources.catalogue import header_of, upright

_KEPT = (Kind.JPEG, Kind.PNG)


def original(path: str, header: np.void, label: int, bit_depth: int = DEEP) -> Packed:
    """Reads an image file and decodes it once; BadData, by its path, if that fails.

    Grey and colour JPEG and PNG that stand upright stay as they are, but for PNG whose levels `bit_depth` scales. The others
    (CMYK, turned by EXIF, animated, other formats) become what training on the file itself would see: upright RGB.

    Args:
      path: the file.
      header: its convoy.data.sources.catalogue.ENTRY.
      label: its class.
      bit_depth: that of convoy.data.images.view.View.
    """
    try:
        content = Path(path).read_bytes()
        if (len(content), probe(content)) != (header["size"], header_of(header)):
            raise ValueError("it has changed since its header was read")
        scaled = bit_depth != DEEP and is_deep(content)
        if header["kind"] in _KEPT and header["orientation"] == 1 and not scaled:
            packed, kind = content, int(header["kind"])
            _check(content, kind)
        else:
            packed, kind = _png(content, header, bit_depth), Kind.PNG
    except (OSError, ValueError, SyntaxError, tf.errors.OpError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        raise exits.BadData(
            f"cannot read the image {path}: {why.splitlines()[0].rstrip('.')}; replace or remove it."
        ) from error
    return Packed(packed, kind, (*upright(header), decoders.CHANNELS), label, content_hash(content))


def _check(content: bytes, kind: int) -> None:
    if kind == Kind.PNG:
        tf.io.decode_png(content)  # which is what reads it later, and less forgiving than Pillow
        return
    with opened(io.BytesIO(content)) as image:
        image.draft(None, (1, 1))  # of a JPEG only as much as shows that it is whole
        image.load()


def _png(content: bytes, header: np.void, bit_depth: int) -> bytes:
    height, width = upright(header)
    facts = (int(header["kind"]), int(header["orientation"]), height, width)
    tensors = [tf.constant(fact, tf.int32) for fact in facts]
    pixels = decode.whole(decode.File(tf.constant(content), *tensors)._replace(bit_depth=bit_depth))
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
