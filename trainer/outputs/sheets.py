"""Pictures of a measurement as pixels: a confusion matrix, and a sheet of examples. Drawn by Pillow, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from convoy.outside import printable

MAX_CLASSES = 100  # of a matrix that is drawn
_SHOWN = 18  # characters of a class's name
_LINE = 14  # pixels of a line of text
_BLUE = np.array([59, 130, 196])
_MAX_SIDE, _MIN_SIDE = 192, 64  # of an image on the sheet


def confusion(labels: np.ndarray, guesses: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A confusion matrix, each cell in the shade of its share of the row; the counts stand in cells of up to 20 classes.

    Args:
      labels: int [N], the right classes.
      guesses: int [N], what they were taken for.
      names: of the classes, at most MAX_CLASSES.

    Returns:
      uint8 [height, width, 3].
    """
    classes = len(names)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, guesses), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = 36 if classes <= 20 else _LINE
    shades = (255 - shares[..., None] * (255 - _BLUE)).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    texts = [_short(name) for name in names]
    margin = 8 + max(_width(text) for text in texts)
    sheet = Image.new("RGB", (margin + len(shades), margin + len(shades)), "white")
    sheet.paste(Image.fromarray(shades), (margin, margin))
    draw = ImageDraw.Draw(sheet)
    across = Image.new("RGB", (margin, len(shades)), "white")  # the names of the columns, before they are turned
    for index, text in enumerate(texts):
        top = index * cell + (cell - _LINE) // 2
        draw.text((4, margin + top), text, fill="black")
        ImageDraw.Draw(across).text((4, len(shades) - top - _LINE), text, fill="black")
    sheet.paste(across.rotate(-90, expand=True), (margin, 0))
    if classes <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                place = (margin + column * cell + cell // 2, margin + row * cell + cell // 2)
                draw.text(place, str(count), fill=colour, anchor="mm")
    return np.asarray(sheet)


def examples(images: np.ndarray, labels: Sequence[str], guesses: Sequence[str], columns: int = 5) -> np.ndarray:
    """A sheet of images, with what each is and what it was taken for, a mistake in red.

    Args:
      images: uint8 [N, h, w, channels]; of other numbers of channels than 1 or 3 the first are shown.

    Returns:
      uint8 [height, width, 3].
    """
    height, width = images.shape[1:3]
    scale = min(max(1.0, _MIN_SIDE / min(height, width)), _MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    room = max(size[0], 120) + 8, size[1] + 2 * _LINE + 8
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * room[0], rows * room[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, label, guess) in enumerate(zip(images, labels, guesses, strict=True)):
        x, y = (index % columns) * room[0] + 4, (index // columns) * room[1] + 4
        pixels = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST), (x, y))
        colour = "black" if label == guess else "red"
        draw.text((x, y + size[1]), f"is {_short(label)}", fill="black")
        draw.text((x, y + size[1] + _LINE), f"taken for {_short(guess)}", fill=colour)
    return np.asarray(sheet)


def _short(name: str) -> str:
    text = printable(name).encode("latin-1", "replace").decode("latin-1")  # the letters that Pillow's own font has
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 2]}.."


def _width(text: str) -> int:
    return round(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(text))
