"""The thin parent of a run: starts it as a child, passes signals on, and maps its death to an exit code.

TensorFlow and JAX can abort, be killed for memory or sit in a collective that no Python handler interrupts; only another
process can still give the right exit code then. This one imports nothing heavy, so it is there from the first moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from convoy import exits, noise

# A signal that the child has not answered by now is followed by SIGKILL. Kubernetes gives 30 s by default and spot
# machines 15 s to 30 s; a run needs under 10 s for what fits in its loop.
ANSWER_SECONDS = 25.0
FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 1.0, 60.0
PARENT_PIPE = "CONVOY_PARENT_PIPE"


def run(command: list[str], restarts: int = 0) -> int:
    """Runs `command` to its end and returns Convoy's exit code for it; only TRY_AGAIN is restarted, `restarts` times."""
    parent = _Parent()
    backoff = FIRST_BACKOFF_SECONDS
    with parent.signals_passed_on():
        for attempt in range(restarts + 1):
            code = parent.run_once(command)
            if code != exits.TRY_AGAIN or parent.asked or attempt == restarts:
                return code
            print(f"convoy: restart {attempt + 1} of {restarts} in {backoff:g} s.", file=sys.stderr)
            if parent.wait_for_signal(backoff):
                return exits.STOPPED if parent.asked == signal.SIGINT else exits.TRY_AGAIN
            backoff = min(2 * backoff, LAST_BACKOFF_SECONDS)
    raise AssertionError("unreachable: the last attempt returns")


def module(name: str, argv: list[str]) -> list[str]:
    """The command that runs one of our modules as a child; -P keeps the current directory from shadowing our packages."""
    return [sys.executable, "-P", "-m", name, *argv]


def exit_code(returncode: int, asked: int = 0) -> int:
    """subprocess's return code of the child -> the code of rule 7; `asked` is the signal that a person or cluster sent.

    A death by signal, or an abort that a shell reports as 128 and above, is worth another try, unless the child was on
    its way out because a person asked for it.
    """
    if returncode < 0 or (returncode >= 128 and returncode != exits.STOPPED):
        return exits.STOPPED if asked == signal.SIGINT else exits.TRY_AGAIN
    return returncode


def follow_parent() -> None:
    """In the child: leave at once when the parent is gone, so that no orphan goes on writing to a run directory."""
    pipe = os.environ.pop(PARENT_PIPE, "")
    if not pipe:
        return

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(int(pipe), 1)
        os._exit(exits.TRY_AGAIN)

    threading.Thread(target=wait, name="follow-parent", daemon=True).start()


class _Parent:
    def __init__(self) -> None:
        self.asked = 0
        self.child: subprocess.Popen[bytes] | None = None
        self.killer: threading.Timer | None = None

    def run_once(self, command: list[str]) -> int:
        with _pipe() as (reader, _writer):
            # A process group of its own: Ctrl-C in a terminal reaches the parent alone, which passes it on exactly once.
            self.child = subprocess.Popen(
                command,
                process_group=0,
                pass_fds=(reader,),
                env={**os.environ, PARENT_PIPE: str(reader)},
                stderr=subprocess.PIPE,
            )
            if self.asked:
                self._send(self.asked)
            assert self.child.stderr is not None
            noise.pass_on(self.child.stderr, sys.stderr.buffer)
            returncode = self.child.wait()
            self.child = None
            if self.killer:
                self.killer.cancel()
        code = exit_code(returncode, self.asked)
        if returncode < 0:
            known = {number.value: number.name for number in signal.Signals}
            name = known.get(-returncode, f"signal {-returncode}")
            print(f"convoy: the run was ended by {name}; exit code {code}.", file=sys.stderr)
        return code

    def wait_for_signal(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.asked and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return bool(self.asked)

    @contextlib.contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.asked = self.asked or number
        if self.child is not None:
            self._send(number)

    def _send(self, number: int) -> None:
        child = self.child
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        if self.killer is None:
            self.killer = threading.Timer(ANSWER_SECONDS, self._kill, (child,))
            self.killer.daemon = True
            self.killer.start()

    @staticmethod
    def _kill(child: subprocess.Popen[bytes]) -> None:
        print(f"convoy: no answer within {ANSWER_SECONDS:g} s; killing the run.", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end only the parent holds: the child reads its end of file when the parent dies."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)
