"""How fast the JPEG decoders themselves are: `python benchmarks/decoders.py`.

One thread decodes the same 250 photographs, whole, from memory. What results/photographs.csv measures rests on it: TensorFlow's
decoder is the one that can decode a part of an image within a graph, and its libjpeg is older than the others'. Needs
benchmarks/peers.txt. Writes results/decoders.csv.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from photographs import files, prepare
from rows import HERE
from sides import Side, main


def over(
    decode: Callable[[Any], object], convert: Callable[[bytes], Any] = bytes
) -> Callable[[str], Callable[[], int]]:
    def start(folder: str) -> Callable[[], int]:
        contents = [convert(Path(path).read_bytes()) for path in files(folder)]

        def make() -> int:
            for content in contents:
                decode(content)
            return len(contents)

        return make

    return start


def tensorflow(folder: str) -> Callable[[], int]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # A sum of one pixel: nothing is copied to Python.
    decode = tf.function(lambda content: tf.reduce_sum(tf.io.decode_jpeg(content, channels=3)[:1, :1]))
    return over(decode, tf.constant)(folder)


def opencv(folder: str) -> Callable[[], int]:
    import cv2

    cv2.setNumThreads(1)
    array = lambda content: np.frombuffer(content, np.uint8)  # noqa: E731
    return over(lambda content: cv2.imdecode(content, cv2.IMREAD_COLOR), array)(folder)


def pillow(folder: str) -> Callable[[], int]:
    import io

    from PIL import Image

    return over(lambda content: Image.open(io.BytesIO(content)).convert("RGB"))(folder)


def simplejpeg(folder: str) -> Callable[[], int]:
    import simplejpeg

    return over(lambda content: simplejpeg.decode_jpeg(content, "RGB"))(folder)


SIDES = {
    "TensorFlow": Side(tensorflow, "tensorflow", True, ""),
    "OpenCV": Side(opencv, "opencv-python-headless", True, ""),
    "Pillow": Side(pillow, "pillow", True, ""),
    "simplejpeg": Side(simplejpeg, "simplejpeg", True, "libjpeg-turbo 3"),
}

if __name__ == "__main__":
    main(SIDES, prepare, HERE / "results" / "decoders.csv", __doc__)
