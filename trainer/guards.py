"""Signals: the first asks the run to save and leave, the second makes it leave at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

from convoy import exits

_CODES = {signal.SIGTERM: exits.TRY_AGAIN, signal.SIGINT: exits.STOPPED}


class Signals:
    """SIGTERM (a cluster takes the machine back) and SIGINT (a person stops the run).

    Until `gentle` is set there is nothing to save, and the first signal leaves at once too.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.gentle = False

    def install(self) -> None:
        """Takes over both signals. Call again after TensorFlow's devices exist: a strategy replaces handlers silently."""
        for number in _CODES:
            signal.signal(number, self._handle)

    @property
    def asked(self) -> bool:
        return self.received is not None

    def leave(self, where: str) -> exits.ConvoyError:
        """The error that ends the run once it is saved; `where` says up to which step."""
        if self.received == signal.SIGINT:
            return exits.Stopped(f"stopped, saved at {where}; the same command continues.")
        return exits.TryAgain(f"asked to leave by SIGTERM, saved at {where}; the same command continues.")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None or not self.gentle:
            os._exit(_CODES[signal.Signals(number)])
        self.received = signal.Signals(number)
