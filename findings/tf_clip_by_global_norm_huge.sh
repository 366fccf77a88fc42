#!/usr/bin/env bash
# tf.clip_by_global_norm turns every gradient into zeros if clip_norm is about 8.5e37 or more, although nothing is to be clipped.
#
# Seen with tensorflow-cpu 2.21.0, Python 3.11, x86-64: clip_norm=1e37 leaves [3, 4] as it is, clip_norm=1e38 returns [0, 0].
# Why: the scale is clip_norm * min(1 / norm, 1 / clip_norm), and 1 / 1e38 is below float32's smallest normal number (1.18e-38),
# which TensorFlow's kernels flush to zero. A limit that was meant as "none" stops all learning without a word.
# Source: tensorflow/python/ops/clip_ops.py, clip_by_global_norm. PyTorch's clip_grad_norm_ clamps the ratio instead.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$place/venv/bin/python" - <<'PYTHON'
import numpy as np
import tensorflow as tf

gradient = tf.constant([3.0, 4.0])


def clipped(limit):
    (result,), norm = tf.clip_by_global_norm([gradient], limit)
    print(f"clip_norm={limit:g}: norm {norm.numpy():g}, gradient {result.numpy().tolist()}")
    return result.numpy()


np.testing.assert_array_equal(clipped(10.0), [3, 4])  # control: nothing to clip
np.testing.assert_array_equal(clipped(1e37), [3, 4])
np.testing.assert_array_equal(clipped(1e38), [0, 0])  # the surprise
PYTHON
