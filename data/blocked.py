"""The blocked order (--order=blocked:N): position -> index, such that a process needs few blocks of neighbours at a time.

An epoch is a permutation of the E examples, as in data/order.py, and as pure: a function of (seed, epoch, position), N and
--batch_size, whatever the number of processes. It is made in three steps.

1. The positions of a batch of B are divided by their offset in it into L lanes of B / L neighbours. The lanes' positions of an
   epoch are laid one lane after another: places [0, E). Processes take contiguous slices of a batch. So where their number
   (times the microbatches) divides L, a lane belongs to one process, and no two processes share more than a block.
2. Places are cut into slots of N, and the slots of a lane into windows of SLOTS. The places of a window are shuffled. Windows
   of different lanes end at different times, so that blocks are needed at an even pace.
3. A slot holds a block of N consecutive examples: the blocks are shuffled over the slots. If N does not divide E, the short
   block stands in a slot that is drawn.

Each step is in closed form: a position costs the same wherever it lies, and nothing is stored.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from convoy.data.keys import key
from convoy.data.permutation import mixed, permuted

MAX_LANES = 64  # more processes than that share blocks
SLOTS = 8  # of a window


@dataclasses.dataclass(frozen=True)
class BlockedOrder:
    """The order of one run.

    Attributes:
      examples: E, of an epoch, from 1 on.
      block: N, examples of a block, from 1 on.
      batch_size: B, the run's --batch_size, whatever a step of --batch_ramp has.
      seed: the run's.
    """

    examples: int
    block: int
    batch_size: int
    seed: int

    @functools.cached_property
    def lanes(self) -> int:
        """L, the largest divisor of the batch size up to MAX_LANES."""
        return max(lanes for lanes in range(1, MAX_LANES + 1) if self.batch_size % lanes == 0)

    @property
    def window_positions(self) -> int:
        """The positions that pass while a lane is within a window, so that each of its examples is needed among them."""
        return (SLOTS * self.block * self.lanes + 2 * self.batch_size) // self.batch_size * self.batch_size

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """The examples at any positions, int64 [n] in [0, E)."""
        epochs = positions // self.examples
        keys = mixed(np.uint64(self._key) + mixed(epochs.astype(np.uint64)))
        places, low, high = self._windows(positions, epochs, keys)
        shuffled = low + permuted(places - low, high - low, mixed(keys + low.astype(np.uint64)))
        return self._examples(shuffled, keys)

    def _windows(
        self, positions: np.ndarray, epochs: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the place of each position, the first of its window, one past the last), int64 [n]."""
        width = self.batch_size // self.lanes
        lanes, first = positions % self.batch_size // width, epochs * self.examples
        last = first + self.examples

        def before(ends: np.ndarray, lanes: np.ndarray) -> np.ndarray:
            """The positions below `ends` in all lanes below `lanes`."""
            batches, rest = ends // self.batch_size, ends % self.batch_size
            return batches * lanes * width + np.minimum(rest, lanes * width)

        lowest, highest = (before(last, lane) - before(first, lane) for lane in (lanes, lanes + 1))
        own = before(positions, lanes + 1) - before(positions, lanes)
        places = lowest + own - (before(first, lanes + 1) - before(first, lanes))
        shift = lanes * SLOTS // self.lanes
        windows = (self._slots(places, keys) + shift) // SLOTS
        begins, ends = (self._starts(window * SLOTS - shift, keys) for window in (windows, windows + 1))
        return places, np.maximum(begins, lowest), np.minimum(ends, highest)

    def _examples(self, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """What stands at places of an epoch."""
        slots, full = self._slots(places, keys), self.examples // self.block
        shorts = self._short_slots(keys)
        ranks = np.minimum(slots - (slots > shorts), max(full - 1, 0))
        blocks = permuted(ranks, np.full_like(ranks, max(full, 1)), mixed(~keys))
        blocks = np.where(slots == shorts, full, blocks)
        return blocks * self.block + places - self._starts(slots, keys)

    def _slots(self, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The slot of each place."""
        short = self.examples % self.block
        behind = places >= self._short_slots(keys) * self.block + short if short else np.zeros(len(places), bool)
        return np.where(behind, places + self.block - short, places) // self.block

    def _starts(self, slots: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The first place of each slot; that of the first for those before it, E for those after the last."""
        shift = np.where(slots > self._short_slots(keys), self.block - self.examples % self.block, 0)
        return np.clip(slots * self.block - shift, 0, self.examples)

    def _short_slots(self, keys: np.ndarray) -> np.ndarray:
        """The slot of the short block in each epoch; without one, a slot that there is not."""
        slots = -(-self.examples // self.block)
        if self.examples % self.block == 0:
            return np.full(len(keys), slots, np.int64)
        return (mixed(keys + np.uint64(1)) % np.uint64(slots)).astype(np.int64)

    @functools.cached_property
    def _key(self) -> int:
        return key(self.seed, "blocked")
