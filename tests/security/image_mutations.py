"""Reads damaged images of every format: python image_mutations.py COUNT. A process of its own, which a decoder may end.

Prints how many were shown, and how many were refused: a JSON object of counts for each format.
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, features

from convoy.data.images.decode import File, fault, whole
from convoy.data.images.probe import Kind, probe
from mutations import SEED, case, torn

KEPT = Path(__file__).parents[1] / "field" / "photographs"
MAX_DECODED = 1 << 20  # pixels: what is larger takes the time of the test, and tells no more
SAVED = {
    "JPEG": {"quality": 70},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "WEBP": {"lossless": True},
    "AVIF": {"speed": 10},
    "JPEG2000": {},
}


def pictures() -> dict[str, bytes]:
    """Format -> a small image."""
    ramp = np.arange(24 * 20 * 3, dtype=np.uint32).reshape(24, 20, 3) * 7 % 256
    right = {}
    for format, options in SAVED.items():
        if features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}.get(format, "jpg")):
            Image.fromarray(ramp.astype(np.uint8)).save(buffer := io.BytesIO(), format, **options)
            right[format] = buffer.getvalue()
    grey = Image.fromarray((np.arange(400, dtype=np.uint16) * 150).reshape(20, 20))
    grey.save(buffer := io.BytesIO(), "PNG")
    right["PNG of 16 bits"] = buffer.getvalue()
    frames = [Image.new("RGB", (12, 10), (level, 0, 0)) for level in (0, 100, 200)]
    for format in "GIF", "WEBP":
        frames[0].save(buffer := io.BytesIO(), format, save_all=True, append_images=frames[1:])
        right[f"{format} of three frames"] = buffer.getvalue()
    Image.fromarray(ramp.astype(np.uint8)).save(buffer := io.BytesIO(), "JPEG", exif=_turned())
    right["turned JPEG"] = buffer.getvalue()
    right["JPEG XL"] = (KEPT / "turned_6.jxl").read_bytes()
    return right


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def read(content: bytes) -> str:
    """What becomes of a file: bad by its header, bad by its pixels, or shown."""
    header = probe(content)
    if header.kind == Kind.BAD:
        assert header.reason.startswith("cannot be "), header
        return "refused by its header"
    if header.height * header.width > MAX_DECODED:
        return "large"
    sides = (header.height, header.width)[:: 1 if header.orientation < 5 else -1]
    file = File(tf.constant(content), header.kind, header.orientation, *sides)
    try:
        pixels = whole(file)
    except tf.errors.OpError:
        assert fault(lambda: file).startswith("cannot be decoded: ")
        return "refused by its pixels"
    assert pixels.shape == (*sides, 3)
    return "shown"


def main(count: int) -> None:
    outcomes: dict[str, Counter[str]] = {}
    for format, right in pictures().items():
        assert read(right) == "shown", format
        outcomes[format] = Counter()
        for number in range(count):
            with case(SEED, number) as chance:
                content = right
                for _ in range(chance.choice([1, 1, 1, 3, 10])):
                    content = torn(content, chance)
                outcomes[format][read(content)] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(int(sys.argv[1]))
