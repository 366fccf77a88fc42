"""The commands that continue a run, as a person pastes them into a shell. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from convoy import options
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.run_dir.files import FLAGS


def train(config: RunConfig, **changes: Any) -> str:
    """The command of a run, with its directory and those flags that are not as by default.

    Args:
      config: the run's, as it was asked for.
      changes: flags that get other values.
    """
    fields = {field.name: field for field in options.fields(RunConfig, DataConfig)}
    usual = dataclasses.replace(RunConfig(), optimizer=config.optimizer).with_defaults()
    unsaid = {name: {field.default} for name, field in fields.items()}
    unsaid["learning_rate"].add(usual.learning_rate)
    unsaid["model"].add(usual.model)
    if not config.scale_lr_spec.row.settles:  # else auto is what the rule says
        unsaid["warmup"].add(usual.warmup)
    flags: dict[str, Any] = {}
    for name, value in {**config.to_dict(), **changes}.items():
        if value not in unsaid[name] and name != "run_dir":
            words = {number: word for word, number in fields[name].metadata["words"].items()}
            flags[name] = words.get(value, value)
    return shlex.join(["convoy", "train", *options.to_flags({**flags, "run_dir": config.run_dir}.items())])


def of_directory(stored: RunConfig, run_dir: str) -> str:
    """The command that continues the run in a directory, whose configuration stands there."""
    if "://" in run_dir:  # flags are read from files of this machine
        return train(dataclasses.replace(stored, run_dir=run_dir))
    return shlex.join(["convoy", "train", f"--flagfile={run_dir.rstrip('/')}/{FLAGS}", f"--run_dir={run_dir}"])


def evaluate(run_dir: str, *flags: str) -> str:
    """The command that measures a run."""
    return shlex.join(["convoy", "evaluate", f"--run_dir={run_dir}", *flags])
