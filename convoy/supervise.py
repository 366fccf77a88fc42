"""The thin parent of a run: starts it as a child, passes signals on, and maps its death to an exit code.

TensorFlow and JAX can abort, be killed for memory, or sit in a collective that no Python handler interrupts. Only another
process can return the right exit code then. This one imports nothing heavy, so it is there from the first moment.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from types import FrameType

from convoy import exits, heartbeat, noise

# A child that does not answer a signal in this time is killed. Kubernetes waits 30 s by default, spot machines 15 s to 30 s.
# A run needs less than 10 s for its loop and a save.
ANSWER_SECONDS = 25.0
# A run with nothing to save leaves at once, unless it waits for a peer.
EARLY_ANSWER_SECONDS = 5.0
# A hanging child prints the stacks of its threads, in C code, before it is killed.
DUMP_SECONDS = 2.0
FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 1.0, 60.0
# The backoff begins again after an attempt that lived longer than this.
LONG_ATTEMPT_SECONDS = 600.0
# Asks a run to save and go on; Slurm and SGE warn with it.
SAVE = signal.SIGUSR1
# Asks a child that hangs where its threads are, and ends it. No scheduler sends it.
STACKS = signal.SIGVTALRM
PARENT_PIPE = "CONVOY_PARENT_PIPE"
# The writer's name in the lock of a run directory: one for all attempts of a parent, as they never overlap. A program that
# starts parents one after another may set it: the next one then takes the lock of the one before without waiting.
WRITER = "CONVOY_WRITER"


def run(
    command: list[str], restarts: int = 0, hang_timeout: float = 0.0, answer_seconds: float = ANSWER_SECONDS
) -> int:
    """Runs `command` to its end and returns Convoy's exit code for it; only TRY_AGAIN is restarted, `restarts` times.

    Args:
      command: a module of ours that calls follow_parent.
      restarts: how often.
      hang_timeout: seconds without a heartbeat after which the child is killed, to be tried again; 0: never.
      answer_seconds: from a signal until it is killed for not having ended, once there is something to save.
    """
    parent = _Parent(hang_timeout, answer_seconds)
    backoff = FIRST_BACKOFF_SECONDS
    with parent.signals_passed_on():
        for restart in range(1, restarts + 2):
            began = time.monotonic()
            code = parent.run_once(command)
            if code != exits.TRY_AGAIN or parent.asked or restart > restarts:
                return code
            if parent.noticed:
                print("convoy: no restart here, since this machine is about to go.", file=sys.stderr)
                return code
            if time.monotonic() - began > LONG_ATTEMPT_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            # Random, so that processes which fell together do not come back together.
            pause = backoff * random.uniform(0.5, 1.0)  # noqa: S311
            print(f"convoy: restart {restart} of {restarts} in {pause:.2g} s, since {parent.why}.", file=sys.stderr)
            if parent.wait_for_signal(pause):
                return exits.STOPPED if parent.asked == signal.SIGINT else exits.TRY_AGAIN
            backoff = min(2 * backoff, LAST_BACKOFF_SECONDS)
    raise AssertionError("unreachable: the last attempt returns")


def module(name: str, argv: list[str]) -> list[str]:
    """The command that runs one of Convoy's modules as a child; -P keeps the current directory from shadowing packages."""
    return [sys.executable, "-P", "-m", name, *argv]


def exit_code(returncode: int, asked: int = 0) -> int:
    """subprocess's return code of the child -> the exit code of this process; `asked` is the signal that was sent to it.

    A death by signal, or an abort that a shell reports as 128 and above, is worth another try. It is not if a person had
    asked the child to stop.
    """
    if returncode < 0 or (returncode >= 128 and returncode != exits.STOPPED):
        return exits.STOPPED if asked == signal.SIGINT else exits.TRY_AGAIN
    return returncode


def leave_signals() -> list[signal.Signals]:
    """The signals that ask this process to leave. SIGHUP is none of them where it is ignored, as nohup and daemons have it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT] + [signal.SIGHUP] * (not ignored)


def follow_parent() -> None:
    """Called by the child: connects the heartbeat, and ends this process when the parent is gone: no orphan writes to a run
    directory. STACKS, or an abort in C code, prints the stacks of all threads."""
    pipes = os.environ.pop(PARENT_PIPE, "")
    if not pipes:
        return
    reader, writer = map(int, pipes.split(","))
    heartbeat.connect(writer)
    faulthandler.enable()
    # C code prints the stacks, without Python's lock; `chain` then runs the default action of the signal, which ends us.
    faulthandler.register(STACKS, chain=True)
    # The kernel sends SIGIO, which ends us, when the pipe closes: C code that hangs may hold the lock that the thread below
    # needs.
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(reader, 1)
        os._exit(exits.TRY_AGAIN)

    threading.Thread(target=wait, name="follow-parent", daemon=True).start()


class _Parent:
    def __init__(self, hang_timeout: float, answer_seconds: float) -> None:
        self.hang_timeout, self.answer_seconds = hang_timeout, answer_seconds
        self.asked = 0
        self.writer = os.environ.get(WRITER) or uuid.uuid4().hex
        self.why = ""  # the last attempt ended
        self.child: subprocess.Popen[bytes] | None = None
        self.killer: threading.Timer | None = None
        self.graceful = self.done = self.hung = self.noticed = False

    def run_once(self, command: list[str]) -> int:
        self.graceful = self.done = self.hung = False
        # The first pipe closes when this process dies, which the child notices; the second one carries the child's heartbeats.
        with _pipe() as (reader, _writer), _pipe() as (signs, voice):
            # In its own process group: Ctrl-C in a terminal reaches only the parent, which passes it on exactly once.
            self.child = subprocess.Popen(
                command,
                process_group=0,
                pass_fds=(reader, voice),
                env={**noise.QUIET, **os.environ, PARENT_PIPE: f"{reader},{voice}", WRITER: self.writer},
                stderr=subprocess.PIPE,
            )
            if self.asked:
                self._send(self.asked)
            over = threading.Event()
            listener = threading.Thread(target=self._listen, args=(self.child, signs, over), daemon=True)
            listener.start()
            assert self.child.stderr is not None
            noise.pass_on(self.child.stderr, sys.stderr.buffer)
            returncode = self.child.wait()
            over.set()
            listener.join()
            self.child = None
            if self.killer:
                self.killer.cancel()
        code = exits.OK if self.done else exit_code(returncode, self.asked)
        if self.hung:
            self.why = "it gave no sign of life"
        elif returncode < 0 and not self.done:
            known = {number.value: number.name for number in signal.Signals}
            name = known.get(-returncode, f"signal {-returncode}")
            self.why = f"it was ended by {name}"
            print(f"convoy: the run was ended by {name}; exit code {code}.", file=sys.stderr)
        else:
            self.why = f"it ended with exit code {code}"
        return code

    def _listen(self, child: subprocess.Popen[bytes], signs: int, over: threading.Event) -> None:
        """Reads the child's heartbeats; kills it when there was none for --hang_timeout."""
        last = time.monotonic()
        while True:
            heard = select.select([signs], [], [], 0.1)[0]
            if heard:
                text = os.read(signs, 4096)
                last = time.monotonic()
                self.graceful |= heartbeat.CAN_SAVE in text
                self.done |= heartbeat.DONE in text
                self.noticed |= heartbeat.NOTICE in text
            elif over.is_set():
                return
            elif self.hang_timeout and not self.done and time.monotonic() - last > self.hang_timeout:
                self.hung = True
                print(
                    f"convoy: no sign of life for --hang_timeout={self.hang_timeout:g} s: a peer is lost, or a step takes"
                    f" longer than that; exit code {exits.TRY_AGAIN}. Where its threads are:",
                    file=sys.stderr,
                )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.send_signal(STACKS)
                    child.wait(DUMP_SECONDS)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                return

    def wait_for_signal(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.asked and (remaining := deadline - time.monotonic()) > 0:
            time.sleep(min(remaining, 0.1))
        return bool(self.asked)

    @contextlib.contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in leave_signals()}
        before[SAVE] = signal.signal(SAVE, self._ask_to_save)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.asked = self.asked or number
        if self.child is not None:
            self._send(number)

    def _ask_to_save(self, _number: int, _frame: FrameType | None) -> None:
        # Only a child that can save has a handler for it, and of its group nobody else.
        if self.child is not None and self.graceful:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, SAVE)

    def _send(self, number: int) -> None:
        child = self.child
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        if self.killer is None:
            seconds = self.answer_seconds if self.graceful else EARLY_ANSWER_SECONDS
            self.killer = threading.Timer(seconds, self._kill, (child, seconds))
            self.killer.daemon = True
            self.killer.start()

    @staticmethod
    def _kill(child: subprocess.Popen[bytes], seconds: float) -> None:
        print(f"convoy: no answer within {seconds:g} s; killing the run.", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end), closed at the end; a child inherits an end only by `pass_fds`."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)
