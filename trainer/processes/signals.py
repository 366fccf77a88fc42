"""Requests to leave: the first asks the run to save and leave, a second signal makes it leave at once."""

from __future__ import annotations

import os
import signal
import sys
import threading

from convoy import exits, heartbeat

_CODES = {signal.SIGTERM: exits.TRY_AGAIN, signal.SIGINT: exits.STOPPED}


class Signals:
    """SIGTERM (a cluster takes the machine back), SIGINT (a person stops the run), and preemption notices (preemption.py).

    Until `graceful` is set there is nothing to save, and the first request ends the process too. A thread acts on signals:
    Python's own handlers wait for the interpreter, which a loop of steps or the import of TensorFlow holds for seconds.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.notice = ""
        self.graceful = False
        self._writer: int | None = None

    def install(self) -> None:
        """Takes over both signals. Call again after TensorFlow's devices exist: a strategy replaces handlers silently."""
        if self._writer is None:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(self._writer)
        for number in _CODES:
            # The wake-up pipe only hears of signals that have a handler in Python.
            signal.signal(number, lambda number, frame: None)

    @property
    def asked(self) -> bool:
        return self.received is not None or bool(self.notice)

    def on_notice(self, notice: str) -> None:
        """Treats a preemption notice as a first SIGTERM. The SIGTERM that follows seconds later does not count as a second
        request."""
        heartbeat.beat(heartbeat.NOTICE)
        if not self.graceful:
            print(f"convoy: asked to leave by the metadata server ({notice}), with nothing to save.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(exits.TRY_AGAIN)
        if not self.asked:
            self.notice = notice

    def leave(self, where: str) -> exits.ConvoyError:
        """The error that ends the run once it is saved; `where` says up to which step."""
        if self.received == signal.SIGINT:
            return exits.Stopped(f"stopped, saved at {where}; the same command continues.")
        if self.notice:
            by = f"the metadata server ({self.notice})"
        else:
            by = "SIGTERM" if self.received else "another process of the run"
        return exits.TryAgain(f"asked to leave by {by}, saved at {where}; the same command continues.")

    def _watch(self, reader: int) -> None:
        while True:
            for byte in os.read(reader, 64):
                if byte in _CODES:
                    self._take(signal.Signals(byte))

    def _take(self, number: signal.Signals) -> None:
        if self.received is not None or not self.graceful:
            os._exit(_CODES[number])
        self.received = number
