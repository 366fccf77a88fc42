#!/usr/bin/env bash
# `import tensorflow` imports JAX, scikit-learn and matplotlib.pyplot where they are installed, though nothing has asked for them.
#
# Seen with tensorflow-cpu 2.21.0, keras 3.15.1, jax 0.10.2, scikit-learn 1.9.1, matplotlib 3.11.2, Python 3.11, x86-64: all three
# are in sys.modules after `import tensorflow`. With the three hidden the same import succeeds and takes 40 % less CPU time
# (3.3 s instead of 5.5 s; printed below, not asserted).
# Why: each stands in a `try` at the top of a module. tensorflow/lite/python/util.py imports jax for its converter,
# keras/src/wrappers/fixes.py imports sklearn, keras/src/visualization/plot_image_gallery.py imports matplotlib.pyplot.
# A program that starts many short processes pays for them each time.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow-cpu==2.21.0 keras==3.15.1 jax==0.10.2 scikit-learn==1.9.1 matplotlib==3.11.2
cat > "$place/look.py" <<'PYTHON'
import sys
import time

NAMES = ["jax", "matplotlib.pyplot", "sklearn"]
hide = sys.argv[1] == "hide"
if hide:
    sys.modules.update(dict.fromkeys(["jax", "matplotlib", "sklearn"]))  # Python's way to say: not there
import tensorflow as tf  # noqa: E402

loaded = [name for name in NAMES if sys.modules.get(name)]
print(f"{sys.argv[1]}: TensorFlow {tf.__version__}, imported with it: {loaded or 'none'}, {time.process_time():.1f} s of CPU")
assert loaded == ([] if hide else NAMES), loaded
assert float(tf.reduce_sum(tf.constant([1.0, 2.0]))) == 3.0
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
"$place/venv/bin/python" "$place/look.py" show 2> /dev/null > /dev/null  # compiles, and fills the page cache
"$place/venv/bin/python" "$place/look.py" show  # the surprise
"$place/venv/bin/python" "$place/look.py" hide  # control: none of them is needed
