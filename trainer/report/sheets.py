"""A sheet of examples with their classes, drawn by Pillow in milliseconds."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from convoy.outside import printable

_SHOWN = 18  # characters of a class's name
_LINE = 14  # pixels of a line of text
_MAX_SIDE, _MIN_SIDE = 192, 64  # of an image on the sheet


def examples(images: np.ndarray, labels: Sequence[str], guesses: Sequence[str], columns: int = 6) -> bytes:
    """A PNG of images, uint8 [N, h, w, 1 or 3], with what each is and what it was taken for, a mistake in red."""
    height, width = images.shape[1:3]
    scale = min(max(1.0, _MIN_SIDE / min(height, width)), _MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    room = max(size[0], 120) + 8, size[1] + 2 * _LINE + 8
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * room[0], rows * room[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, label, guess) in enumerate(zip(images, labels, guesses, strict=True)):
        x, y = (index % columns) * room[0] + 4, (index // columns) * room[1] + 4
        pixels = np.broadcast_to(image, (height, width, 3))
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST), (x, y))
        colour = "black" if label == guess else "red"
        draw.text((x, y + size[1]), f"is {_short(label)}", fill="black")
        draw.text((x, y + size[1] + _LINE), f"taken for {_short(guess)}", fill=colour)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _short(name: str) -> str:
    text = printable(name).encode("latin-1", "replace").decode("latin-1")  # the letters that Pillow's own font has
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 2]}.."
