#!/usr/bin/env bash
# safetensors.numpy writes a tensor of ml_dtypes' bfloat16, and cannot read the file that it wrote: KeyError: 'BF16'.
#
# Seen with safetensors 0.8.0, ml_dtypes 0.5, NumPy 2, Python 3.11; load, load_file and safe_open(framework="np") alike. JAX's arrays go
# through this module, so a checkpoint in bfloat16 that safetensors.flax saved is unreadable without PyTorch or JAX.
# Why: the table of types that reads has no BF16, while the bytes of any dtype are written by its name.
# Source: safetensors/numpy.py, _TYPES.
# Control: float16 is written and read.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 'ml_dtypes==0.5.*' 'numpy==2.*'
"$place/venv/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import load, save

half = load(save({"weight": np.array([1.5, -2], np.float16)}))["weight"]
assert half.dtype == np.float16 and half.tolist() == [1.5, -2], "control"
written = save({"weight": np.array([1.5, -2], ml_dtypes.bfloat16)})
assert b'"BF16"' in written
try:
    read = load(written)["weight"].dtype.name
except KeyError as error:
    read = f"KeyError: {error}"
print(f"safetensors {safetensors.__version__}: float16 is read as {half.dtype}; bfloat16 is written, and read as {read}")
assert read == "KeyError: 'BF16'"
PYTHON
