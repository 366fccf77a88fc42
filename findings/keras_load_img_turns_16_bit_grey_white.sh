#!/usr/bin/env bash
# keras.utils.load_img turns a grey 16-bit PNG white: every level from 256 up becomes 255. keras.utils.image_dataset_from_directory
# gives the same file its high eight bits.
#
# Seen with keras 3.15.1, Pillow 13.0.0, tensorflow-cpu 2.21.0, Python 3.11: levels 16,384, 32,768 and 65,535 of 65,535 are 255, 255,
# 255 by load_img and 64, 128, 255 by image_dataset_from_directory. A network that was trained by the one and asked by the other
# sees white squares, and nothing warns.
# Why: load_img calls Pillow's convert("RGB"), which cuts the mode I;16 off at 255; the other decodes by TensorFlow.
# Source: keras/src/utils/image_utils.py, load_img; keras/src/utils/image_dataset_utils.py, load_image.
# Control: an 8-bit PNG has the same levels by both.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 pillow==13.0.0 tensorflow-cpu==2.21.0
cd "$place"
TF_CPP_MIN_LOG_LEVEL=3 "$place/venv/bin/python" - <<'PYTHON'
import pathlib

import keras
import numpy as np
import PIL
from PIL import Image

SIDE = 8


def levels(dtype, values):
    """Of one file a value, by both: in a folder of its own, as a data set has it."""
    folder = pathlib.Path(np.dtype(dtype).name)
    (folder / "class").mkdir(parents=True)
    for index, value in enumerate(values):
        Image.fromarray(np.full((SIDE, SIDE), value, dtype)).save(folder / "class" / f"{index}.png")
    paths = sorted((folder / "class").iterdir())
    loaded = [float(keras.utils.img_to_array(keras.utils.load_img(path)).mean()) for path in paths]
    data = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(SIDE, SIDE), shuffle=False, batch_size=len(paths), verbose=False
    )
    batch = next(iter(data)).numpy()
    return loaded, [float(image.mean()) for image in batch]


values = [16_384, 32_768, 65_535]
loaded, listed = levels(np.uint16, values)
print(f"Keras {keras.__version__}, Pillow {PIL.__version__}: 16-bit levels {values}: load_img {loaded}, from_directory {listed}")
assert loaded == [255, 255, 255]
assert listed == [64, 128, 255]
loaded, listed = levels(np.uint8, [64, 128, 255])
print(f"8-bit levels: load_img {loaded}, from_directory {listed}")
assert loaded == listed == [64, 128, 255], "control"
PYTHON
