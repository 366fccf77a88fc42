#!/usr/bin/env bash
# With oneDNN on, TensorFlow computes a convolution with explicit padding by oneDNN, but neither of its gradients: both run on
# TensorFlow's own, slower kernels. The same convolution after tf.pad, with padding="VALID", has all three from oneDNN.
#
# Seen with tensorflow-cpu 2.21.0, Python 3.11, x86-64 with AVX-512, TF_ENABLE_ONEDNN_OPTS=1: the graph that was run has
# _MklNativeConv2D, Conv2DBackpropFilter and Conv2DBackpropInput; after tf.pad, all three names begin with _MklNative.
# Forward and gradients of 8 x 32 x 32 x 32, two cores: 3.6 ms explicit, 1.8 ms after tf.pad (not asserted).
# Why: the pass that puts oneDNN's operations in place leaves these nodes as they are, though oneDNN's gradient operations have
# the attribute too (tensorflow/core/common_runtime/mkl_layout_pass.cc; CheckForNodeRewrite decides).
# keras.layers.Conv2D never asks for explicit padding; tf.nn.conv2d does for a list of lists.
# Control: the gradients are equal, bit for bit (all numbers are small integers), and none is from oneDNN when that is off.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
cat > "$place/look.py" <<'PYTHON'
import os

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.disable_eager_execution()  # a session hands out the graph that it has run
PADDING = [[0, 0], [1, 1], [1, 1], [0, 0]]
EXPLICIT = {"Conv2D": True, "Conv2DBackpropInput": False, "Conv2DBackpropFilter": False}
onednn = os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
random = np.random.default_rng(0)
images, kernel = tf1.placeholder(tf.float32, (8, 32, 32, 32)), tf1.placeholder(tf.float32, (3, 3, 32, 32))
values = {tensor: random.integers(-2, 3, tensor.shape).astype(np.float32) for tensor in (images, kernel)}


def run(convolved):
    """(gradients of images and kernel, operation -> whether oneDNN computes it)"""
    gradients, ran = tf1.gradients(tf.reduce_sum(convolved), [images, kernel]), tf1.RunMetadata()
    options = tf1.RunOptions(output_partition_graphs=True)
    with tf1.Session() as session:
        *arrays, _ = session.run([*gradients, convolved], values, options=options, run_metadata=ran)
    names = [node.op for graph in ran.partition_graphs for node in graph.node if "Conv2D" in node.op]
    return arrays, {name.removeprefix("_MklNative"): name.startswith("_MklNative") for name in names}


explicit, by_explicit = run(tf.nn.conv2d(images, kernel, 1, PADDING))
padded, by_padded = run(tf.nn.conv2d(tf.pad(images, PADDING), kernel, 1, "VALID"))
for name in EXPLICIT:
    print(f"TensorFlow {tf.__version__}, oneDNN {'on' if onednn else 'off'}, {name}: by oneDNN"
          f" {by_explicit[name]} with explicit padding, {by_padded[name]} after tf.pad")
assert all(np.array_equal(*pair) for pair in zip(explicit, padded)), "control: the same numbers"
assert by_explicit == (EXPLICIT if onednn else dict.fromkeys(EXPLICIT, False))
assert by_padded == dict.fromkeys(EXPLICIT, onednn)
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
TF_ENABLE_ONEDNN_OPTS=1 "$place/venv/bin/python" "$place/look.py" 2> /dev/null
TF_ENABLE_ONEDNN_OPTS=0 "$place/venv/bin/python" "$place/look.py" 2> /dev/null  # control
