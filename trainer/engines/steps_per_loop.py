"""How many steps a loop takes: short enough to answer a signal within half a second, long enough that Python costs nothing."""

from __future__ import annotations

TARGET_SECONDS = 0.5


class StepsPerLoop:
    """Chooses the length of the next loop from the time of the last one.

    Args:
      fixed: always this many steps; 0 aims at half a second. What a step does never depends on it.
    """

    def __init__(self, fixed: int = 0):
        self.fixed, self.length = fixed, 1
        self._loops = 0

    def steps(self, limit: int) -> int:
        """Steps of the next loop, at most `limit`."""
        return min(self.fixed or self.length, limit)

    def record(self, steps: int, seconds: float) -> None:
        """Reports a loop. The first one still prepares what later ones use, so its time says nothing."""
        self._loops += 1
        if self._loops > 1:
            # At most tenfold at once: one lucky measurement must not make a loop of minutes.
            self.length = max(1, min(round(TARGET_SECONDS * steps / max(seconds, 1e-6)), 10 * steps))
