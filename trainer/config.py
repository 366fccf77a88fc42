"""A run's configuration: flags become one frozen object, which is valid by construction.

Imports no TensorFlow, Keras or JAX: a wrong flag is refused before seconds are spent on starting them, and launchers validate
the runs that they submit.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

from convoy import exits, options
from convoy.data.config import DataConfig
from convoy.trainer.flags import recipes, validation
from convoy.trainer.flags.find_lr import RateSearch
from convoy.trainer.flags.run.machine import MachineFlags
from convoy.trainer.flags.run.model import ModelFlags
from convoy.trainer.flags.run.optimizer import AUTO_WARMUP, NO_WARMUP, OptimizerFlags
from convoy.trainer.flags.run.schedule import ScheduleFlags
from convoy.trainer.flags.run.training import TrainingFlags
from convoy.trainer.models.names import AUTO, DEFAULT, MODELS
from convoy.trainer.optimizers.names import OPTIMIZERS


@dataclasses.dataclass(frozen=True)
class RunConfig(MachineFlags, ScheduleFlags, TrainingFlags, OptimizerFlags, ModelFlags):
    """Everything that decides a run. Valid by construction: an impossible value raises exits.CannotRun, a sentence.

    The flags are those of the bases, the last base first.
    """

    def __post_init__(self) -> None:
        options.check(self)
        for name in _PARSED:
            getattr(self, name)  # which refuses what does not parse
        given = {name: value for name, value in vars(self).items() if value != _DEFAULTS.get(name, value)}
        validation.check_batch(self.batch_size, self.accumulate)
        validation.check_ramp(self.batch_ramp_spec, self.batch_size, self.duration_spec, self.scale_lr_spec)
        validation.check_patience(self.patience, self.data.eval_split)
        freezes = bool(self.groups or self.unfreeze)
        validation.check_features(self.cache_features, self.data.augment, freezes, self.duration_spec)
        validation.check_scaling(self.scale_lr_spec, self.optimizer, self.learning_rate)
        if self.duration_spec.unit == "st":
            self.profile_spec.check(int(self.duration_spec.amount))
        validation.check_peak(self.scale_lr, self.peak_learning_rate)
        validation.check_end(self.schedule_spec, self.peak_learning_rate)
        if self.model != AUTO or not self.pretrained:
            validation.check_options("model", DEFAULT if self.model == AUTO else self.model, MODELS, given)
        validation.check_options("optimizer", self.optimizer, OPTIMIZERS, given)
        validation.check_averages(self.lookahead_spec, self.optimizer, OPTIMIZERS[self.optimizer].averages)
        validation.check_clipping(self.clip_norm, self.clip_agc)
        validation.check_compile_cache(self.compile_cache, self.trust_compile_cache)
        validation.check_machine(self.backend, self.devices_spec, self.strategy, self.precision, self.xla)

    def with_defaults(self) -> RunConfig:
        """The same run with those defaults written out that depend neither on the machine nor on the data."""
        config = self
        if config.model == AUTO and not config.pretrained:
            config = dataclasses.replace(config, model=DEFAULT)
        if config.scale_lr_spec.row.settles:
            rate, _, beta_2, _ = config.scaled
            beta_2 = config.beta_2 if beta_2 is None else beta_2
            config = dataclasses.replace(
                config, scale_lr="none", learning_rate=rate, warmup=config._warmup, beta_2=beta_2
            )
        if config.warmup == AUTO_WARMUP:
            config = dataclasses.replace(config, warmup=NO_WARMUP)
        if config.learning_rate is None:
            config = dataclasses.replace(config, learning_rate=OPTIMIZERS[config.optimizer].learning_rate)
        if not config.run_dir:
            name = "".join(c if c.isalnum() else "-" for c in config.data.dataset).strip("-")
            now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
            config = dataclasses.replace(config, run_dir=f"runs/{name}-{now}")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Flag name -> value, in the order of --help."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values |= dataclasses.asdict(value) if field.name == "data" else {field.name: value}
        return values

    def to_json(self, run_id: str, minutes: str = "") -> bytes:
        """A run directory's config.json. `minutes`: the --duration that was asked for, where its steps were measured."""
        more = {"run_id": run_id, **({"minutes": minutes} if minutes else {})}
        return json.dumps({**self.to_dict(), **more}, indent=1).encode()

    def to_flags(self) -> str:
        """A flagfile that reproduces this run, without --run_dir, since a reproduction has its own."""
        return "\n".join(options.to_flags((n, v) for n, v in self.to_dict().items() if n != "run_dir")) + "\n"


_DEFAULTS = {field.name: field.default for field in options.fields(RunConfig)}
_PARSED = [
    name for name, member in inspect.getmembers_static(RunConfig) if isinstance(member, functools.cached_property)
]


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The inverse of RunConfig.to_dict. Keys that are no flags are passed over."""
    return RunConfig(data=DataConfig(**options.take(DataConfig, values)), **options.take(RunConfig, values))


def parse(argv: list[str]) -> dict[str, Any]:
    """Flags of `convoy train` -> their values, --find_lr among them; those of --recipe and --flagfile are inlined.

    Raises:
      exits.UsageError: flags do not parse.
      exits.CannotRun: a value is impossible.
    """
    return options.parse(recipes.inlined(argv), RateSearch, RunConfig, DataConfig)


def from_argv(argv: list[str]) -> RunConfig:
    """Flags -> the configuration of a run. Raises as `parse` does."""
    values = parse(argv)
    if values["find_lr"]:
        raise exits.UsageError(
            "--find_lr begins no run; give it to `convoy train`, on a machine like those of the run."
        )
    return from_dict(values)
