#!/usr/bin/env bash
# In a graph of a Keras model on TensorFlow, operations of one layer carry the name of another: those of `conv2d` are named
# conv2d_1/..., as if the second layer had made them. A profile or a list of operations by name blames the wrong layer.
#
# Seen with keras 3.15.1 and tensorflow-cpu 2.21.0, Python 3.11, x86-64: of three Conv2D layers with Keras' own names, conv2d runs
# as functional_1/conv2d_1/convolution, conv2d_1 as functional_1/conv2d_1_2/convolution, conv2d_2 as .../conv2d_2_1/convolution.
# Why: Layer.__call__ (keras/src/layers/layer.py) opens the layer's name scope for _maybe_build, even if the layer is built, and
# again for call. name_scope.__enter__ (keras/src/backend/tensorflow/core.py) enters tf.name_scope(name), which makes a name that
# was used before unique by a number: the name that Keras gives to the next layer of the same class.
# Control: with names that are not told apart by a number, no operation carries the name of another layer.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow "$place/venv/bin/python" - <<'PYTHON' 2> /dev/null
import keras
import tensorflow as tf


def scopes_by_layer(names):
    """Layer -> the scope in which its convolution runs. They run in the model's order."""
    inputs = x = keras.Input((8, 8, 4))
    layers = [keras.layers.Conv2D(4, 1, name=name) for name in names]
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    graph = tf.function(model).get_concrete_function(tf.TensorSpec((2, 8, 8, 4))).graph
    convolutions = [operation.name for operation in graph.get_operations() if operation.type == "Conv2D"]
    return {layer.name: name.split("/")[1] for layer, name in zip(layers, convolutions, strict=True)}


default, own = scopes_by_layer([None] * 3), scopes_by_layer(["stem", "middle", "top"])
print(f"Keras {keras.__version__}, TensorFlow {tf.__version__}, names by Keras: {default}; own names: {own}")
assert default == {"conv2d": "conv2d_1", "conv2d_1": "conv2d_1_2", "conv2d_2": "conv2d_2_1"}, default
assert default["conv2d"] in default, "the first layer runs in a scope with the name of the second"
assert not set(own.values()) & set(own), "control: numbers are added, but none makes the name of another layer"
PYTHON
