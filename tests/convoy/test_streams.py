"""A reader of stdout or stderr that goes ends no command."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys

import pytest

from convoy import streams

CHATTY = """
import sys
from rich.console import Console
from convoy import entry, terminal

def main():
    console = Console(file=terminal.unguarded(sys.stdout))
    for number in range(300):
        print("a line of print", number)
        console.print("a line of rich", number)
        print("an error", number, file=sys.stderr)
    {end}

entry.call(main)
"""
PARENT = f"""
import sys
from convoy import entry, supervise
entry.call(lambda: supervise.run([sys.executable, "-c", {CHATTY.format(end="return 65")!r}]))
"""


def ends(program: str, unread: list[str], *flags: str, **pipes) -> tuple[int, str]:
    """(exit code, what was said on a stderr that is read) of a program whose reader has gone before it writes."""
    process = subprocess.Popen(
        [sys.executable, *flags, "-c", program],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **pipes},
    )
    for name in unread:
        getattr(process, name).close()
    _, err = process.communicate(timeout=60)
    return process.returncode, err or ""


@pytest.mark.parametrize(
    ("unread", "flags", "end", "code"),
    [
        (["stdout"], [], "return 70", 70),
        (["stdout"], ["-u"], "raise BrokenPipeError('elsewhere')", 1),
        (["stdout", "stderr"], [], "raise RuntimeError", 1),
    ],
)
def test_the_exit_code_is_that_of_the_work(unread, flags, end, code):
    returncode, err = ends(CHATTY.format(end=end), unread, *flags)
    assert returncode == code
    if "stderr" not in unread:
        assert err.count("an error") == 300
        assert ("Traceback" in err) == (code == 1)


def test_the_parent_of_a_run_passes_on_what_nobody_reads():
    assert ends(PARENT, ["stdout", "stderr"])[0] == 65


def test_streams_may_be_closed_from_the_beginning():
    def close() -> None:
        os.close(1)
        os.close(2)

    returncode, _ = ends(CHATTY.format(end="return 70"), [], stdout=None, stderr=None, preexec_fn=close)
    assert returncode == 70


def test_a_terminal_may_be_closed():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CHATTY.format(end="return 70")], stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.read(ours, 100)
    os.close(ours)
    assert process.wait(60) == 70


def test_a_disk_that_breaks_is_no_reader_that_goes(tmp_path, monkeypatch):
    raw = streams._Lasting(str(tmp_path / "out.csv"), "wb")
    assert raw._is_of_its_reader(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert not raw._is_of_its_reader(OSError(errno.EIO, "Input/output error"))
    assert not raw._is_of_its_reader(OSError(errno.ENOSPC, "No space left on device"))
    raw.close()


def test_what_somebody_put_in_the_place_of_a_stream_stays(capsys):
    assert streams.lasting(sys.stdout, 1) is sys.stdout
    assert streams.is_read()
