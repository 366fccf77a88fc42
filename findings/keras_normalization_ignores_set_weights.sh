#!/usr/bin/env bash
# A Normalization layer that gets its mean and variance by set_weights, or by assigning its variables, goes on normalizing with the
# ones before. get_weights shows the new ones.
#
# Seen with keras 3.15.1, tensorflow-cpu 2.21.0, Python 3.11: statistics of a layer adapted to [0, 10] (mean 5, variance 25) are set in a
# second one, which was adapted to [0, 2]: it maps 0 and 10 to -1 and 9, not to -1 and 1.
# Why: the call uses the attributes mean and variance, plain tensors that finalize_state computes from the variables; only
# adapt, load_own_variables and load_assets call it. Whatever restores a checkpoint by variables (a loop of one's own, Orbax, an average of
# models) meets it.
# Source: keras/src/layers/preprocessing/normalization.py, finalize_state and call.
# Control: load_weights of the same numbers, before anything was predicted, and set_weights of a Dense layer, work.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0
cd "$place"
TF_CPP_MIN_LOG_LEVEL=3 "$place/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

values = np.array([[0.0], [10.0]], "float32")


def normalizer(data):
    layer = keras.layers.Normalization()
    layer.adapt(np.array(data, "float32"))
    return keras.Sequential([keras.Input((1,)), layer])


def outputs(model):
    return model(values).numpy().ravel().round(3).tolist()


first, second, loaded = normalizer(values), normalizer([[0.0], [2.0]]), normalizer([[0.0], [2.0]])
second.set_weights(first.get_weights())
first.save_weights("first.weights.h5")
loaded.load_weights("first.weights.h5")
shown = [float(weight.ravel()[0]) for weight in second.get_weights()[:2]]
print(f"Keras {keras.__version__}: the first gives {outputs(first)}; set_weights shows {shown} and gives {outputs(second)};")
print(f"load_weights gives {outputs(loaded)}")
assert outputs(first) == [-1, 1]
assert shown == [5, 25] and outputs(second) == [-1, 9], "normalized as before"
assert outputs(loaded) == [-1, 1], "control"
dense = [keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]) for _ in range(2)]
dense[1].set_weights(dense[0].get_weights())
assert outputs(dense[0]) == outputs(dense[1]), "control"
PYTHON
