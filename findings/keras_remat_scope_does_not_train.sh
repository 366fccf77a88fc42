#!/usr/bin/env bash
# A small Keras model built within keras.RematScope cannot be trained by fit: on TensorFlow no layer with weights, on JAX not with
# BatchNormalization or Dropout in it.
#
# Seen with keras 3.15.1, tensorflow-cpu 2.21.0, jax 0.10.2, Python 3.11: on TensorFlow fit raises a ValueError that begins "The
# custom_gradient decorator", for Dense alone too; on JAX a RuntimeError, "Unable to automatically build the model".
# Why: RematScope wraps each layer's call in the backend's remat. tf.recompute_grad takes no keyword arguments in a graph, and
# Keras passes some; what goes wrong on JAX was not looked into.
# Control: the same models without the scope train, and on JAX a Dense model trains within it.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0 jax==0.10.2
cat > "$place/look.py" <<'PYTHON'
import contextlib
import re

import keras
import numpy as np

MIDDLE = {
    "Dense": [],
    "BatchNormalization": [keras.layers.BatchNormalization],
    "Dropout": [lambda: keras.layers.Dropout(0.5)],
}
TRAINS = {"tensorflow": set(), "jax": {"Dense"}}[keras.backend.backend()]
images, targets = np.ones((4, 8), "float32"), np.zeros((4, 1), "float32")


def fit(middle, scope):
    with scope:
        layers = [keras.Input((8,)), keras.layers.Dense(8), *(make() for make in middle), keras.layers.Dense(1)]
        x = layers[0]
        for layer in layers[1:]:
            x = layer(x)
        model = keras.Model(layers[0], x)
    model.compile("sgd", "mse")
    try:
        model.fit(images, targets, verbose=0)
    except Exception as error:
        sentence = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
        return f"raises {type(error).__name__}: {sentence.removeprefix('Exception encountered when calling Functional.call(). ')[:90]}"
    return "trains"


for name, middle in MIDDLE.items():
    plain, within = fit(middle, contextlib.nullcontext()), fit(middle, keras.RematScope("full"))
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {name}: {plain}; within RematScope {within}")
    assert plain == "trains"
    assert (within == "trains") == (name in TRAINS), within
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
for backend in tensorflow jax; do
  KERAS_BACKEND=$backend "$place/venv/bin/python" "$place/look.py"
done
