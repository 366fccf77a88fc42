"""What a checkpoint says of the data: one position, also where an older version wrote a shift."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loop.progress import Progress

CLOCK = Clock.steady(100, 8)


def older(**values):
    """A progress as it was written before there were positions."""
    progress = Progress(step=40, position=40).to_dict()
    del progress["position"]
    return progress | {"shift": 0} | values


def test_progress_is_read_as_it_was_written():
    progress = Progress(step=40, position=1234, best={"step": 20, "loss": 0.5, "accuracy": 0.25}, rollbacks=2)
    assert Progress.from_dict(progress.to_dict(), CLOCK) == progress


def test_a_shift_of_batches_becomes_a_position():
    progress = Progress.from_dict(older(shift=3), CLOCK)
    assert (progress.step, progress.position) == (40, 344)
    assert "shift" not in progress.to_dict()


def test_steps_that_an_older_version_timed_become_examples():
    values = Progress(step=40, position=320, timed_steps=30, timed_seconds=1.5).to_dict()
    del values["timed_examples"]
    assert Progress.from_dict(values, CLOCK).timed_examples == 240


@pytest.mark.parametrize(
    "values",
    [{"shift": -1}, {"shift": 1 << 31}, {"shift": None}, {"shift": 10**3000}, {"step": -1}, {"step": None}],
    ids=repr,
)
def test_a_shift_that_no_run_has_is_bad_data(values):
    with pytest.raises(exits.BadData, match="progress has"):
        Progress.from_dict(older(**values), CLOCK)


@pytest.mark.parametrize("values", [None, [], 3, {}, {"shift": 1}, {"position": 1}], ids=repr)
def test_what_is_no_progress_is_bad_data(values):
    with pytest.raises(exits.BadData, match="progress"):
        Progress.from_dict(values, CLOCK)
