"""Keeps five lines of TensorFlow's, which no setting silences, off the screen of a run.

They are written by its C++ before any log level applies, look like errors and mean nothing here: that oneDNN is on and leaves
bytes to others, and that a machine without a GPU has none. Everything else a run writes to stderr passes as it comes.
"""

from __future__ import annotations

import os
import re
from typing import IO

_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|[IWE]0000 .*(oneDNN custom operations are on|Could not find cuda drivers on your machine"
    rb"|oneDNN supports DT_UINT8 only on platforms with AVX-512|failed call to cuInit"
    rb"|optimized to use available CPU instructions)"
    rb"|To enable the following instructions: .*rebuild TensorFlow"
)
# What a setting does silence, unless the person has set it: the chatter of its libraries.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
_MAY_BECOME = (b"WARNING: All log", b"I0000 ", b"W0000 ", b"E0000 ", b"To enable the following")


def pass_on(source: IO[bytes], target: IO[bytes]) -> None:
    """Copies `source` to `target` until its end, without the noise."""
    pending = b""
    while chunk := os.read(source.fileno(), 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        target.write(b"".join(line + b"\n" for line in lines if not _NOISE.match(line)))
        # The beginning of a line is held back only while it could still turn out to be noise: progress bars go on.
        if not any(pending.startswith(start[: len(pending)]) for start in _MAY_BECOME):
            target.write(pending)
            pending = b""
        target.flush()
    target.write(pending)
    target.flush()
