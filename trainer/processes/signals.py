"""What a run is asked by signals: to save and leave, to leave at once, or to save and go on."""

from __future__ import annotations

import os
import signal
import sys
import threading

from convoy import exits, heartbeat, supervise

_CODES = {signal.SIGTERM: exits.TRY_AGAIN, signal.SIGHUP: exits.TRY_AGAIN, signal.SIGINT: exits.STOPPED}


class Signals:
    """Requests to leave: SIGTERM (a cluster takes the machine back), SIGHUP (the terminal is gone), SIGINT (a person stops
    the run), and preemption notices (preemption.py). SIGUSR1, with which schedulers warn of a time limit, asks to save.

    Until `graceful` is set there is nothing to save, and the first request to leave ends the process. So does SIGINT later, if
    it is the second request. SIGTERM and SIGHUP are not: a scheduler or a terminal may send them several times, and to all
    processes of a run. A thread acts on signals: Python's own handlers wait for the interpreter, which a loop of steps or the
    import of TensorFlow holds for seconds.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.notice = ""
        self.graceful = False
        self.save_asked = False  # and not yet saved
        self._writer: int | None = None

    def install(self) -> None:
        """Takes the signals of this process over, for as long as it lives."""
        if self._writer is None:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(self._writer)
        for number in (*supervise.leave_signals(), supervise.SAVE):
            # The wake-up pipe only hears of signals that have a handler in Python.
            signal.signal(number, lambda number, frame: None)

    def install_again(self) -> None:
        """Takes them back, if this object had taken them: TensorFlow's strategies replace handlers silently."""
        if self._writer is not None:
            self.install()

    @property
    def asked(self) -> bool:
        """Whether to leave."""
        return self.received is not None or bool(self.notice)

    def on_notice(self, notice: str) -> None:
        """Treats a preemption notice as a request to leave; a SIGINT that follows is not the second one yet."""
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
            return exits.Stopped(f"stopped, saved at {where}.")
        if self.notice:
            by = f"the metadata server ({self.notice})"
        else:
            by = self.received.name if self.received else "another process of the run"
        return exits.TryAgain(f"asked to leave by {by}, saved at {where}.")

    def _watch(self, reader: int) -> None:
        while True:
            for byte in os.read(reader, 64):
                if byte in _CODES:
                    self._take(signal.Signals(byte))
                elif byte == supervise.SAVE:
                    self.save_asked |= self.graceful

    def _take(self, number: signal.Signals) -> None:
        if not self.graceful or (self.received is not None and number == signal.SIGINT):
            os._exit(_CODES[number])
        self.received = self.received or number
