"""How many steps a loop takes: few enough that a signal is answered soon, so many that Python does not matter."""

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
        """Reports a loop. The first one traced the step, so its time says nothing."""
        self._loops += 1
        if self._loops > 1:
            # At most tenfold at once: one lucky measurement must not make a loop of minutes.
            self.length = max(1, min(round(TARGET_SECONDS * steps / max(seconds, 1e-6)), 10 * steps))


def evaluation_batch_size(trained: int, pixels: int, examples: int) -> int:
    """Examples of an evaluation batch on one replica, at most `examples`.

    Without gradients small images go in larger batches than the `trained` that a replica differentiates at once, which saves
    calls: as many pixels as 512 images of CIFAR-10 have.
    """
    return min(max(trained, min(512 * 32 * 32 // pixels, 512)), examples)
