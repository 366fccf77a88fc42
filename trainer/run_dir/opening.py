"""May this run begin, or go on, in this directory? Imports nothing heavy, and writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convoy import exits
from convoy.data.identity import Identity
from convoy.store import Store
from convoy.trainer import checkpoints
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.durations import MAX_STEPS, Duration
from convoy.trainer.flags.run.training import AUTO_ACCUMULATE
from convoy.trainer.loop.progress import Progress
from convoy.trainer.outputs import records
from convoy.trainer.run_dir import commands, data_identity, dataset
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.trainer.run_dir.dataset import Description
from convoy.trainer.run_dir.files import CHECKPOINTS, CONFIG, EVENTS
from convoy.trainer.run_dir.finished import finished_result
from convoy.trainer.run_dir.stored_config import StoredConfig, from_json


@dataclasses.dataclass(frozen=True)
class Beginning:
    """How an attempt begins: with the result of a run that is finished, or with its own number."""

    finished: dict[str, Any] | None = None
    attempt: int = 0


def stored_config(store: Store) -> StoredConfig | None:
    """The configuration of the run that lives there; None for an empty place, CannotRun for one that holds something else."""
    try:
        text = store.get(CONFIG)
    except FileNotFoundError:
        if entry := store.first_entry():
            raise exits.CannotRun(
                f"--run_dir={store.url} holds {entry} and is no run of Convoy; choose an empty or a new directory."
            ) from None
        return None
    return from_json(text, f"{store.url}/{CONFIG}")


def trained_config(store: Store, run_dir: str) -> StoredConfig:
    """The configuration of a run that was begun; CannotRun where there is none."""
    try:
        text = store.get(CONFIG)
    except FileNotFoundError:
        raise exits.CannotRun(f"--run_dir={run_dir} is no run: it has no {CONFIG}.") from None
    return from_json(text, f"{run_dir}/{CONFIG}")


def begun_config(store: Store) -> StoredConfig | None:
    """The configuration of a run that was begun; None where there is none, whatever else stands there."""
    try:
        return from_json(store.get(CONFIG), f"{store.url}/{CONFIG}")
    except FileNotFoundError:
        return None


def finished_without_data(config: RunConfig, store: Store, stored: StoredConfig | None) -> dict[str, Any] | None:
    """The result of a run that is finished, if that can be told without its data set; CannotRun for another run's directory.

    So a command that has nothing to do says so before TensorFlow is imported. None: `begin` decides.
    """
    if stored is None:
        return None
    description = dataset.read(store)
    config = _resolved(config, stored, description)
    refuse_differences(config, stored, moves=data_identity.known(store) is not None)
    if description is None or config.data.dataset != stored.unchecked.data.dataset:
        return None  # how long an epoch is, or whether that is the same data set, shows when it is opened
    return finished_result(store, config, config.total_steps(description.epoch))


def _resolved(config: RunConfig, stored: StoredConfig, description: Description | None) -> RunConfig:
    """The configuration without the `auto` that are compared. What only the data set could say is taken for unchanged."""
    data = config.data
    if description:
        data = data.resolved(description.split_names)
    elif data.eval_split == "auto":
        data = dataclasses.replace(data, eval_split=stored.unchecked.data.eval_split)
    precision = "float32" if config.precision == "auto" else config.precision
    accumulate = stored.unchecked.accumulate if config.accumulate == AUTO_ACCUMULATE else config.accumulate
    config = dataclasses.replace(config, precision=precision, accumulate=accumulate, data=data)
    return dataclasses.replace(config, duration=measured_duration(config, stored) or config.duration)


def measured_duration(config: RunConfig, stored: StoredConfig | None) -> str:
    """--duration=30min in steps, as it was measured when the run was begun; "" for a new run.

    Other minutes than those are as many more steps, or fewer. CannotRun for a run that was begun with steps or epochs.
    """
    if stored is None or not config.duration_spec.in_minutes:
        return ""
    if not stored.minutes:
        refuse_differences(config, stored, moves=True)
    then = Duration.parse(stored.minutes, "duration", minutes=True)
    steps = stored.unchecked.duration_spec.amount * config.duration_spec.amount / then.amount
    return f"{min(max(round(steps), 1), MAX_STEPS)}st"


def begin(config: RunConfig, identity: Identity, total: int, store: Store, stored: StoredConfig | None) -> Beginning:
    """Decides how an attempt begins. Raises CannotRun where another run lives, or one that was begun on other data."""
    if stored:
        then = data_identity.known(store)
        refuse_differences(config, stored, moves=then is not None)
        data_identity.refuse_other_data(config, identity, then)
        if finished := finished_result(store, config, total):
            return Beginning(finished=finished)
    return Beginning(attempt=next_attempt(store))


def refuse_differences(config: RunConfig, stored: StoredConfig, moves: bool) -> None:
    if lines := differences(stored.unchecked, config, moves):
        command = commands.of_directory(stored.unchecked, config.run_dir)
        raise exits.CannotRun(
            f"--run_dir={config.run_dir} holds another run:\n"
            + "\n".join(lines)
            + f"\nTo begin a new one, give another --run_dir. This continues the one that is there:\n  {command}"
        )


def next_attempt(store: Store) -> int:
    """The number of the attempt that begins: none before has written under it, and what it saves will be found again."""
    attempts = {EVENTS: records.attempts(store), CHECKPOINTS: checkpoints.attempts(store)}
    place = max(attempts, key=attempts.__getitem__)
    if attempts[place] >= records.MAX_ATTEMPTS:
        raise exits.BadData(
            f"{store.url}/{place} tells of attempt {attempts[place]:,}, which no run comes to; remove it there, or choose"
            " another --run_dir."
        )
    return 1 + attempts[place]


def refuse_other_model(
    check: Callable[[Mapping[str, np.ndarray]], None], tensors: Mapping[str, np.ndarray], config: RunConfig
) -> None:
    """CannotRun if a checkpoint's tensors are not those that the model has now, for which `check` raises ValueError."""
    try:
        check(tensors)
    except ValueError as error:
        raise exits.CannotRun(
            f"{config.run_dir} holds another model than --model={config.model} builds now: {error}; bring back the model's"
            " code, or choose another --run_dir."
        ) from error


def refuse_other_plan(store: Store, progress: Progress, total: int) -> None:
    """BadData for a checkpoint that lies behind the run's end, or knows of records that are not there."""
    if progress.step > total:  # of a shorter run, which --duration cannot make of one
        raise exits.BadData(
            f"{store.url} holds another run: its checkpoint is of step {progress.step:,}, and the run ends at step"
            f" {total:,}; restore it from a copy, or choose another --run_dir."
        )
