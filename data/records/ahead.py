"""Reads ahead of a training stream: threads bring the pieces of its plan in order, within a budget of disk."""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.data.records.format import allow_files
from convoy.data.records.pieces import Objects, Piece
from convoy.data.records.plan import PlannedPiece, planned, working_set
from convoy.data.schedule import Schedule

READERS = 8
SHARE = 0.75  # of the disk; the rest is for what is read again, as in evaluations


class _Bringing:
    """A piece that is planned, on its way or here."""

    def __init__(self, plan: PlannedPiece):
        self.plan, self.remaining = plan, len(plan.reads)  # reads of it
        self.piece: Piece | None = None


class Ahead:
    """The records of a schedule, each here when it is read.

    Args:
      schedule: what is read.
      rows: of the index, int64 [examples], that of each example, which grow.
      objects: where they come from.
      folder: where they are kept until they have been read as often as the schedule says.
      budget: bytes of the disk, of which SHARE are for these.
      failed: told of the error that ends all reading.
    """

    def __init__(
        self,
        schedule: Schedule,
        rows: np.ndarray,
        objects: Objects,
        folder: Path,
        budget: int,
        failed: Callable[[Exception], None],
    ):
        self._schedule, self._rows, self._objects, self._folder = schedule, rows, objects, folder
        self._among, self._max_pieces = np.unique(rows), allow_files() // 4
        self._budget = int(SHARE * budget)
        self._failed = failed
        self._changed = threading.Condition()
        self._planned_until = self._wanted = self._enough = schedule.first_position  # positions
        self._queue = deque[_Bringing]()
        self._coming: dict[int, deque[tuple[int, _Bringing]]] = {}  # row -> (number, piece) of its next reads
        self._done = set[int]()  # numbers of reads, of which all below `_next` are done too
        self._next = 0
        self._bytes = self._pieces = 0  # here or on their way; each piece is an open file
        self._needed = 0  # bytes at the same time
        self._error: Exception | None = None
        self._stopped = False

    def start(self) -> None:
        """Begins to read; before the first record is asked for."""
        for number in range(READERS + 1):
            target = self._bring if number else self._plan_ahead
            threading.Thread(target=self._guarded, args=(target,), name=f"ahead-{number}", daemon=True).start()

    def stop(self) -> None:
        """Ends all threads, soon, and forgets what is here."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._coming.clear()
            self._changed.notify_all()

    def wait(self, positions: np.ndarray) -> None:
        """Returns when these positions, int64 [n], are planned; raises what ended the reading."""
        with self._changed:
            # The partner of the last position of a step may be the first of another, and is planned with the former.
            last = int(positions.max(initial=0))
            self._wanted = max(self._wanted, last)
            self._changed.notify_all()
            self._await(lambda: self._planned_until >= last)
            self._raise()

    def read(self, row: int) -> bytes | None:
        """The data of a record, awaited if it is on its way; None if the schedule does not say that it is read now."""
        with self._changed:
            self._raise()
            if not (reads := self._coming.get(row)):
                return None
            number, bringing = reads.popleft()
            if not reads:
                del self._coming[row]
            self._await(lambda: bringing.piece is not None)
            self._raise()
            piece = bringing.piece
        assert piece is not None, "it is here, or something ended the reading"
        data = piece.read(row)
        with self._changed:
            self._finish(number, bringing)
        return data

    def _finish(self, number: int, bringing: _Bringing) -> None:
        """A read is done; the piece goes with its last."""
        self._done.add(number)
        while self._next in self._done:
            self._done.remove(self._next)
            self._next += 1
        bringing.remaining -= 1
        if not bringing.remaining:
            bringing.piece = None
            self._bytes, self._pieces = self._bytes - bringing.plan.bytes, self._pieces - 1
        if not bringing.remaining or (self._queue and self._queue[0].plan.first_read <= self._next):
            self._changed.notify_all()

    def _plan_ahead(self) -> None:
        for chunk in planned(self._schedule, self._rows, self._objects.index):
            self._needed = max(self._needed, working_set(chunk.pieces))
            if self._needed > self._budget:
                raise self._too_little()
            coming = [_Bringing(piece) for piece in chunk.pieces]
            reads = [(number, row, bringing) for bringing in coming for number, row in bringing.plan.reads]
            reads.sort(key=operator.itemgetter(0))
            with self._changed:
                # A window is read ahead while another one is in use, and nothing that a run may never come to.
                self._enough = self._planned_until if chunk.end < self._schedule.end else chunk.end + 1
                self._planned_until = chunk.end
                for number, row, bringing in reads:
                    self._coming.setdefault(row, deque()).append((number, bringing))
                self._queue.extend(coming)
                self._changed.notify_all()
                if not self._await(lambda: self._wanted >= self._enough):
                    return

    def _bring(self) -> None:
        while (bringing := self._admitted()) is not None:
            rows = bringing.plan.rows
            piece = Piece(self._folder, self._objects.contents(rows, self._among))
            with self._changed:
                bringing.piece = piece
                self._changed.notify_all()

    def _admitted(self) -> _Bringing | None:
        """The next piece, when there is room for it; None when reading is over."""

        def fits() -> bool:
            plan = self._queue[0].plan
            if self._bytes + plan.bytes <= self._budget and self._pieces < self._max_pieces:
                return True
            if plan.first_read <= self._next:  # whatever is here is needed later, and goes no sooner
                raise self._too_little()
            return False

        with self._changed:
            if not self._await(lambda: bool(self._queue) and fits()):
                return None
            bringing = self._queue.popleft()
            self._bytes, self._pieces = self._bytes + bringing.plan.bytes, self._pieces + 1
            self._changed.notify_all()
            return bringing

    def _too_little(self) -> exits.CannotRun:
        given, needed = (size / SHARE / 2**30 for size in (self._budget, max(self._needed, self._budget + 1)))
        return exits.CannotRun(
            f"--cache_gb={given:.3g} is too little for --order=blocked:{self._schedule.order.block}: the records"
            f" that are needed at the same time take {needed:.3g} GiB or more; give that, or smaller blocks in a new run."
        )

    def _await(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition has come true before all is over. Called with the lock."""
        self._changed.wait_for(lambda: self._over or condition())
        return not self._over

    @property
    def _over(self) -> bool:
        return self._stopped or self._error is not None

    def _raise(self) -> None:
        if self._error:
            raise self._error
        if self._stopped:
            raise RuntimeError("another stream has begun, and this one has ended")

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            with self._changed:
                if not self._over:
                    self._error = error
                    self._failed(error)
                self._changed.notify_all()
