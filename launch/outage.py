"""Bearing with a place of jobs that does not answer for a while."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from convoy import exits
from convoy.outside import printable

AWAY_SECONDS = 1800.0  # control planes are away while they are upgraded


class Outage:
    """How long a place has been away; for who follows jobs there."""

    def __init__(self) -> None:
        self.since: float | None = None  # None while it answers

    @contextlib.contextmanager
    def borne(self, patient: bool = True) -> Iterator[None]:
        """Within, exits.TryAgain is told and passed over, until AWAY_SECONDS after the first of a row of them."""
        try:
            yield
            self.since = None
        except exits.TryAgain as error:
            self.since = self.since or time.monotonic()
            if not patient or time.monotonic() - self.since > AWAY_SECONDS:
                raise
            print(f"convoy: {printable(str(error))}", file=sys.stderr, flush=True)
