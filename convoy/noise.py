"""Keeps five lines of TensorFlow's, which no setting silences, off the screen of a run, and escape sequences as well.

TensorFlow's C++ writes them before any log level applies. They look like errors and mean nothing: oneDNN is on, and a machine
without a GPU has no GPU. Everything else that a run writes to stderr passes, shown as terminal.py has it.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import IO

from convoy import terminal

_NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|[IWE]0000 .*(oneDNN custom operations are on|Could not find cuda drivers on your machine"
    r"|oneDNN supports DT_UINT8 only on platforms with AVX-512|failed call to cuInit"
    r"|optimized to use available CPU instructions)"
    r"|To enable the following instructions: .*rebuild TensorFlow"
)
# What a setting does silence, unless the person has set it: the chatter of its libraries.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
_MAY_BECOME = ("WARNING: All log", "I0000 ", "W0000 ", "E0000 ", "To enable the following")
_CUT = re.compile("\x1b\\[?$")  # what may become the sequence of a progress bar


def pass_on(source: IO[bytes], target: IO[bytes]) -> None:
    """Copies `source` to `target` until its end, without the noise."""
    decoder, pending = codecs.getincrementaldecoder("utf-8")("backslashreplace"), ""
    screen = terminal.Lines()

    def write(text: str) -> None:
        target.write(screen.shown(text).encode("utf-8", "backslashreplace"))
        target.flush()

    while chunk := os.read(source.fileno(), 65536):
        *lines, pending = (pending + decoder.decode(chunk)).split("\n")
        write("".join(f"{line}\n" for line in lines if not _NOISE.match(line)))
        # The beginning of a line is held back only while it could still turn out to be noise: progress bars go on.
        if not any(pending.startswith(start[: len(pending)]) for start in _MAY_BECOME) and not _CUT.search(pending):
            write(pending)
            pending = ""
    write(pending + decoder.decode(b"", final=True))
