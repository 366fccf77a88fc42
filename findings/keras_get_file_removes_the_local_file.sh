#!/usr/bin/env bash
# keras.utils.get_file removes a local file that it was only to check, when it cannot download another one.
#
# Seen with keras 3.15.1, jax 0.10.2, Python 3.11: the file is in Keras' cache, its digest is not `file_hash` (an older or a newer
# version of published weights), and the machine has no network. get_file raises, and the file is gone: what worked with the
# digest left out works no more. Why: keras/src/utils/file_utils.py downloads onto the file itself, and removes that path after
# any error, also where not one byte arrived.
# Control: with the file's own digest, and with none, get_file returns the path and the file stays.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2
cat > "$place/look.py" <<'PYTHON'
import hashlib
import sys
from pathlib import Path

import keras

CONTENT, NOWHERE = b"weights that took an hour to download", "http://127.0.0.1:9/weights.h5"  # nothing listens there
local = Path(sys.argv[1]) / "weights" / "weights.h5"
local.parent.mkdir()


def ask(file_hash):
    """(what get_file did, whether the file is still there)."""
    local.write_bytes(CONTENT)
    try:
        path = keras.utils.get_file(
            "weights.h5", NOWHERE, cache_dir=sys.argv[1], cache_subdir="weights", file_hash=file_hash
        )
        done = "returned the path" if Path(path) == local else f"returned {path}"
    except Exception as error:
        done = f"raised {str(error)[:60]!r}"
    return done, local.exists()


for label, file_hash in (
    ("no digest", None),
    ("its own digest", hashlib.sha256(CONTENT).hexdigest()),
    ("another digest", "0" * 64),
):
    done, stays = ask(file_hash)
    print(f"Keras {keras.__version__}, {label}: get_file {done}; the file {'stays' if stays else 'is gone'}")
    assert stays == (label != "another digest")
    assert done.startswith("raised") == (label == "another digest")
PYTHON
KERAS_BACKEND=jax "$place/venv/bin/python" "$place/look.py" "$place"
