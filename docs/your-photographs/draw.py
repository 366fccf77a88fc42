"""Draws a folder of pictures to try Convoy with: `python docs/your-photographs/draw.py photos`.

Four kinds of leaf on a ground that is never the same: 40 JPEG files a class for training in photos/, and 3 a class beside it
in new/, which no training sees. The same files every time.
"""

from __future__ import annotations

import colorsys
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TRAINING, NEW = 40, 3
SIZE = 320, 256  # width, height
Shape = Callable[[np.ndarray], np.ndarray]  # angle -> distance of the outline from the middle, in radii


def round_leaf(angle: np.ndarray) -> np.ndarray:
    return np.full_like(angle, 0.8)


def lobed_leaf(angle: np.ndarray) -> np.ndarray:
    return 0.65 + 0.3 * np.cos(5 * angle)


def narrow_leaf(angle: np.ndarray) -> np.ndarray:
    return 0.3 / np.sqrt(0.09 + 0.91 * np.sin(angle) ** 2)


def toothed_leaf(angle: np.ndarray) -> np.ndarray:
    return 0.7 + 0.12 * np.abs((9 * angle / np.pi) % 2 - 1) * 2


CLASSES = {"aspen": round_leaf, "maple": lobed_leaf, "willow": narrow_leaf, "elm": toothed_leaf}


def picture(shape: Shape, random: np.random.Generator) -> Image.Image:
    """A leaf of a random place, size, turn and green on ground of a random brown with blurred spots."""
    width, height = SIZE
    brown = random.uniform(0.5, 1.2) * np.array([130, 105, 80])
    ground = np.clip(brown + random.normal(0, 30, (8, 10, 1)) + random.normal(0, 8, (8, 10, 3)), 0, 255).astype(
        np.uint8
    )
    image = Image.fromarray(ground).resize(SIZE, Image.Resampling.BICUBIC)
    angle = np.linspace(0, 2 * np.pi, 360)
    radius = random.uniform(60, 110) * shape(angle)
    turn, left, top = random.uniform(0, 2 * np.pi), random.uniform(110, width - 110), random.uniform(105, height - 105)
    outline = [*zip(left + radius * np.cos(angle + turn), top + radius * np.sin(angle + turn), strict=True)]
    green = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(random.uniform(0.1, 0.4), 0.7, random.uniform(0.35, 0.8)))
    draw = ImageDraw.Draw(image)
    draw.polygon(outline, fill=green)
    vein = tuple(c * 2 // 3 for c in green)
    for end in outline[:: random.integers(35, 60)]:
        draw.line([(left, top), end], fill=vein, width=2)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.5)))
    noise = random.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(TRAINING):
            picture(shape, random).save(folder / name / f"{number:03}.jpg", quality=90)
    new = folder.parent / "new"
    new.mkdir()
    for name, shape in CLASSES.items():
        for number in range(NEW):
            picture(shape, random).save(new / f"{name}{number}.jpg", quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "photos"))
