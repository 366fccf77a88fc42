"""How far an engine's stream may read ahead: to the end of the run, or to where the batch grows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig


def steps_from(position, batch_size, order="blocked:8"):
    from convoy.trainer.engines.base import BaseEngine

    config = RunConfig(data=DataConfig(order=order), batch_size=64, duration="2ep", batch_ramp="32:1ep")
    engine = SimpleNamespace(config=config, _stage=SimpleNamespace(batch_size=batch_size))
    return BaseEngine._steps_from(engine, position, 1000)


@pytest.mark.parametrize(
    ("position", "batch_size", "steps"), [(0, 32, 32), (512, 32, 16), (1024, 64, 16), (1984, 64, 1)]
)
def test_a_stream_ends_with_the_run_or_where_the_batch_grows(position, batch_size, steps):
    assert steps_from(position, batch_size) == steps


def test_nothing_is_counted_where_nobody_reads_ahead():
    assert steps_from(0, 32, order="full") == 0
