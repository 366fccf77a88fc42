"""Scalars for TensorBoard."""

from __future__ import annotations

import time


class Board:
    """An event file in a folder, written by TensorBoard's own writer; `purge_from` is that of `purge`."""

    def __init__(self, folder: str, purge_from: int | None):
        # Late: half a second, which a run spends beside its first evaluation instead of before its first step.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._log = event_pb2.SessionLog
        self._writer = EventFileWriter(folder)
        if purge_from is not None:
            self.purge(purge_from)

    def purge(self, step: int) -> None:
        """Makes TensorBoard forget what was drawn from a step on, which is repeated."""
        start = self._log(status=self._log.START)
        self._writer.add_event(self._event(step=step, wall_time=time.time(), session_log=start))

    def scalars(self, split: str, step: int, values: dict[str, float | None]) -> None:
        points = [
            self._summary.Value(tag=f"{split}/{name}", simple_value=value)
            for name, value in values.items()
            if value is not None
        ]
        self._writer.add_event(self._event(step=step, wall_time=time.time(), summary=self._summary(value=points)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
