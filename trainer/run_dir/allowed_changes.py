"""Which flags may be changed when a run is continued: those with `option(may_change=True)`, and a few within limits.

Imports nothing heavy.
"""

from __future__ import annotations

from convoy import options
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig


def differences(old: RunConfig, new: RunConfig, moves: bool = True) -> list[str]:
    """Why `new` cannot continue a run that was begun as `old`: one line per flag, empty if it can.

    Args:
      old: the configuration that the run was begun with.
      new: the configuration of the continuation.
      moves: whether the data may lie in another place now, because its identity is known and will be compared.
    """
    before, after = old.to_dict(), new.to_dict()
    may_change = {field.name for field in options.fields(RunConfig, DataConfig) if field.metadata["may_change"]}
    lines = []
    for name in before:
        if before[name] == after[name] or name in may_change:
            continue
        if name == "duration" and _not_shorter(old, new):
            continue
        if name == "dataset" and moves and _may_have_moved(old.data, new.data):
            continue
        now, then = (options.shortened(values[name], 400) for values in (after, before))
        lines.append(f"  --{name}={now}, but the run was begun with --{name}={then}")
    return lines


def _may_have_moved(before: DataConfig, after: DataConfig) -> bool:
    source = before.dataset_spec.source
    return source.has_place and after.dataset_spec.source == source


def _not_shorter(old: RunConfig, new: RunConfig) -> bool:
    before, after = old.duration_spec, new.duration_spec
    return before.unit == after.unit and after.amount >= before.amount
