"""Convoy's commands, called from Python: each in a child process, whose end becomes an exception.

A child and not this process: Keras has one backend and TensorFlow one set of devices for the life of a process, a run may be
killed for its memory, and what it holds on an accelerator is free again when it ends. So runs of different engines can follow
each other, and a notebook outlives them.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from convoy import exits, supervise

_TICK_SECONDS = 0.25
_SENTENCE = "convoy: "  # how the line begins that says why a command ends
_FORCED = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def call(
    argv: Sequence[str],
    show: Callable[[str], None],
    tick: Callable[[], None] = lambda: None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Runs `convoy ARGV` to its end.

    KeyboardInterrupt, as Ctrl-C or a notebook's interrupt raises it, asks the command to stop: a run saves first. A second
    one kills it. Should this process die, the command ends too.

    Args:
      argv: the verb and its flags.
      show: is given each line of stdout, in this thread. Lines of stderr go to this process's.
      tick: is called four times a second.
      variables: for its environment.

    Raises:
      exits.ConvoyError: what the command ended with, and its sentence; of the class that has its exit code.
      KeyboardInterrupt: asked twice.
    """
    with _Child(argv, variables or {}) as child:
        while child.goes_on():
            try:
                child.pass_on(show)
                tick()
            except KeyboardInterrupt:
                child.interrupt()
    child.pass_on(show)
    tick()
    child.raise_error()


def _environment() -> dict[str, str]:
    """This process's, without what Jupyter sets to have colours and bars drawn into pipes."""
    own = {name: value for name, value in os.environ.items() if name not in _FORCED}
    return {**own, "PYTHONUNBUFFERED": "1"}


class _Child:
    """A command that is running; use as a context, after which it is not."""

    def __init__(self, argv: Sequence[str], variables: Mapping[str, str]) -> None:
        self._said = queue.SimpleQueue[tuple[bool, str]]()  # (whether on stderr, a line)
        self._sentence: list[str] = []  # the last line of stderr that begins as one, and those behind it
        self._asked = False
        # The command reads the first pipe, to end when we do; nobody reads the heartbeats that it writes into the other.
        self._pipes = [*os.pipe(), *os.pipe()]
        reader, _, _, voice = self._pipes
        self._process = subprocess.Popen(
            supervise.module("convoy", list(argv)),
            process_group=0,  # Ctrl-C in a terminal reaches this process alone, which passes it on once
            pass_fds=(reader, voice),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(), **variables, supervise.PARENT_PIPE: f"{reader},{voice}"},
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, stream is self._process.stderr), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for thread in self._readers:
            thread.start()

    def _read(self, stream: IO[bytes], is_error: bool) -> None:
        for line in stream:
            self._said.put((is_error, line.decode("utf-8", "backslashreplace").rstrip("\r\n")))

    def goes_on(self) -> bool:
        """Waits a moment; whether the command is still running."""
        try:
            self._process.wait(_TICK_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        except KeyboardInterrupt:
            self.interrupt()
            return True
        return False

    def pass_on(self, show: Callable[[str], None]) -> None:
        """Shows what was said since."""
        while not self._said.empty():
            is_error, line = self._said.get()
            if not is_error:
                show(line)
            elif line.startswith(_SENTENCE):
                self._tell()
                self._sentence = [line]
            elif self._sentence:
                self._sentence.append(line)
            else:
                print(line, file=sys.stderr)

    def _tell(self) -> None:
        for line in self._sentence:
            print(line, file=sys.stderr)
        self._sentence = []

    def interrupt(self) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._process.send_signal(signal.SIGINT)

    def raise_error(self) -> None:
        """Raises what the command ended with, if not well."""
        code = supervise.exit_code(self._process.returncode, signal.SIGINT if self._asked else 0)
        if code == exits.OK:
            self._tell()
            return
        sentence = "\n".join(self._sentence).removeprefix(_SENTENCE)
        if code == exits.STOPPED:
            sentence = sentence or "stopped, with nothing to save."
        raise exits.error(code, sentence or f"the command ended with exit code {code}; what it said is above.")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        # Its own child ends with it, for the same reason.
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._readers:
            thread.join()
        for pipe in self._pipes:
            os.close(pipe)
