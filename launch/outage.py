"""Tolerating a target that does not answer for a while."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from convoy import exits
from convoy.outside import printable

MAX_OUTAGE_SECONDS = 1800.0  # control planes do not answer while they are upgraded


class OutageTolerance:
    """Measures how long a target has not answered; for commands that follow jobs there."""

    def __init__(self) -> None:
        self.since: float | None = None  # None while it answers

    @contextlib.contextmanager
    def tolerate(self, enabled: bool = True) -> Iterator[None]:
        """Prints and suppresses exits.TryAgain raised inside, until MAX_OUTAGE_SECONDS after the first of a row of them."""
        try:
            yield
            self.since = None
        except exits.TryAgain as error:
            self.since = self.since or time.monotonic()
            if not enabled or time.monotonic() - self.since > MAX_OUTAGE_SECONDS:
                raise
            print(f"convoy: {printable(str(error))}", file=sys.stderr, flush=True)
