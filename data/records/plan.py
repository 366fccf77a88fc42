"""What of a bucket one process needs for its training batches, in the order in which it needs it, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from convoy.data.records.pieces import MAX_REQUEST
from convoy.data.schedule import Schedule

_MIN_READS = 4096  # planned at a time


@dataclasses.dataclass(frozen=True)
class PlannedPiece:
    """Records of a block that are near each other, and needed within one window.

    Attributes:
      rows: of the index, int64 [n], that grow.
      bytes: of their data.
      reads: (number in the order of all reads of the process, row) of each reading, in order.
    """

    rows: np.ndarray
    bytes: int
    reads: list[tuple[int, int]]

    @property
    def first_read(self) -> int:
        return self.reads[0][0]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The pieces that are needed first during some steps, in the order of their first reads.

    Attributes:
      pieces: those.
      end: every position below is planned now.
    """

    pieces: list[PlannedPiece]
    end: int


@dataclasses.dataclass(frozen=True)
class _Reads:
    """Those of some steps.

    Attributes:
      numbers, shown: int64 [n], the number of each and the index of its example.
      blocks: int64 [n], a number of (epoch, block).
    """

    numbers: np.ndarray
    shown: np.ndarray
    blocks: np.ndarray

    def where(self, chosen: np.ndarray) -> _Reads:
        return _Reads(self.numbers[chosen], self.shown[chosen], self.blocks[chosen])

    def with_(self, other: _Reads) -> _Reads:
        arrays = ((self.numbers, other.numbers), (self.shown, other.shown), (self.blocks, other.blocks))
        return _Reads(*map(np.concatenate, arrays))


def planned(schedule: Schedule, rows: np.ndarray, index: np.ndarray) -> Iterator[Chunk]:
    """The pieces of a schedule, so many steps at a time as keep a block.

    Args:
      schedule: what is read.
      rows: of the index, int64 [examples], that of each example, which grow.
      index: RECORDs of the split.
    """
    order = schedule.order
    usual = -(-order.window_positions // schedule.batch_size)
    usual = max(usual, -(-_MIN_READS // len(schedule.positions(0, 1))))
    number, first_step = 0, 0

    def reads() -> _Reads:
        nonlocal number, first_step
        steps = max(min(usual, schedule.steps - first_step), 1) if schedule.steps else usual
        positions = schedule.positions(first_step, steps)
        shown = order.indices(positions)
        numbers = number + np.arange(len(positions))
        number, first_step = number + len(positions), first_step + steps
        of_epoch = positions // order.examples * (-(-order.examples // order.block))
        return _Reads(numbers, shown, of_epoch + shown // order.block)

    now = reads()
    while True:
        end = schedule.first_position + first_step * schedule.batch_size
        # A block that is begun now may be needed until its window ends, which is at the latest in the steps that follow.
        following = reads()
        begun = np.isin(following.blocks, now.blocks) & (end < schedule.end)
        both = now.with_(following.where(begun))
        yield Chunk(_pieces(both, rows, index) if len(both.numbers) else [], end)
        now = following.where(~begun)


def _pieces(reads: _Reads, rows: np.ndarray, index: np.ndarray) -> list[PlannedPiece]:
    order = np.lexsort((reads.numbers, reads.shown, reads.blocks))
    reads = reads.where(order)
    records = index[rows[reads.shown]]
    starts = np.flatnonzero(np.diff(reads.blocks, prepend=-1))
    of_block = np.repeat(records["offset"][starts], np.diff(starts, append=len(order)))
    # Of a large block several pieces, so that its first records are not waited for as long as for all.
    parts = (records["offset"] - of_block) // MAX_REQUEST
    borders = np.diff(reads.blocks, prepend=-1) | np.diff(records["shard"], prepend=-1) | np.diff(parts, prepend=-1)
    starts = np.flatnonzero(borders)
    again = np.diff(reads.shown, prepend=-1) == 0
    again[starts] = False  # the first of a piece is none that it has already
    sizes = np.add.reduceat(np.where(again, 0, records["length"]), starts)
    pieces = []
    for first, last, size in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], sizes.tolist(), strict=True):
        own = rows[reads.shown[first:last]]
        pieces.append(
            PlannedPiece(
                np.unique(own), size, sorted(zip(reads.numbers[first:last].tolist(), own.tolist(), strict=True))
            )
        )
    return sorted(pieces, key=lambda piece: piece.first_read)


def working_set(pieces: list[PlannedPiece]) -> int:
    """The bytes of these pieces that are needed at the same time, at the worst moment."""
    numbers = np.array([[piece.first_read, piece.reads[-1][0] + 1] for piece in pieces], np.int64).reshape(-1)
    sizes = np.array([[piece.bytes, -piece.bytes] for piece in pieces], np.int64).reshape(-1)
    # Of two changes at one read the smaller comes first.
    return int(np.cumsum(sizes[np.lexsort((sizes, numbers))]).max(initial=0))
