#!/usr/bin/env bash
# tf.io.decode_bmp gives the palette's indices of a BMP file with a palette, as if they were grey levels. Its colours are lost.
#
# Seen with tensorflow-cpu 2.21.0, Pillow 13.0.0, Python 3.11: a picture of red, green and blue thirds decodes to three greys by
# decode_bmp and decode_image, without an error, with channels=3 too. Pillow gives the colours.
# Why: the kernel reads rows of one byte a pixel as one channel and does not look at the palette in the header.
# Source: tensorflow/core/kernels/image/decode_image_op.cc, DecodeBmpV2; https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-storage
# Control: the same picture without a palette, 24 bits a pixel, has its colours.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 pillow==13.0.0
TF_CPP_MIN_LOG_LEVEL=3 "$place/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

COLOURS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
picture = np.repeat(np.array(COLOURS, np.uint8), 8, axis=0)[None].repeat(8, axis=0)  # 8 x 24 x 3


def bmp(image):
    file = io.BytesIO()
    image.save(file, "BMP")
    return file.getvalue()


def centres(pixels):
    return np.asarray(pixels)[4, 4::8].tolist()


with_palette = bmp(Image.fromarray(picture).quantize(3))
plain = bmp(Image.fromarray(picture))
expected = centres(Image.open(io.BytesIO(with_palette)).convert("RGB"))
decoded = centres(tf.io.decode_bmp(with_palette))
also = centres(tf.io.decode_image(with_palette))
three = centres(tf.io.decode_image(with_palette, channels=3))
print(f"TensorFlow {tf.__version__}, Pillow {PIL.__version__}: Pillow {expected}, decode_bmp {decoded}, decode_image {also}")
print(f"decode_image with channels=3: {three}")
assert expected == COLOURS
assert sorted(decoded) == [[0], [1], [2]] and decoded == also, "indices"
assert three == [index * 3 for index in decoded], "and as grey, where three channels are asked for"
assert centres(tf.io.decode_bmp(plain)) == COLOURS, "control"
PYTHON
