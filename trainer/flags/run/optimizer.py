"""The optimizer, its learning rate, and what happens to a gradient before it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from convoy.bounds import real
from convoy.options import option
from convoy.table import joined
from convoy.trainer.flags.choices import WEIGHT_DECAY_MODES
from convoy.trainer.flags.durations import Duration
from convoy.trainer.flags.run.batch import BatchFlags
from convoy.trainer.flags.scale_lr import RULES, Scaled, ScaleSpec
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.names import SCHEDULES, ScheduleSpec

AUTO_WARMUP = "auto"
NO_WARMUP = "0st"

_OPTIMIZATION = "Optimization"


@dataclasses.dataclass(frozen=True)
class OptimizerFlags(BatchFlags):
    """The optimizer and its learning rate, which may follow the batch."""

    optimizer: str = option("adam", lambda: f"{OPTIMIZERS.help()}.", group=_OPTIMIZATION, choices=OPTIMIZERS)
    learning_rate: float | None = option(
        None,
        lambda: f"peak learning rate (default: {_default_rates()}).",
        group=_OPTIMIZATION,
        within=real(0, above=True),
    )
    scale_lr: str = option(
        "none", lambda: f"how the learning rate follows the batch: {RULES.help()}.", group=_OPTIMIZATION
    )
    schedule: str = option("constant", lambda: f"after warm-up: {SCHEDULES.help()}.", group=_OPTIMIZATION)
    warmup: str = option(
        AUTO_WARMUP,
        f"linear warm-up to the peak, in epochs (5ep) or steps (100st); {AUTO_WARMUP}: what --scale_lr says, else {NO_WARMUP}.",
        group=_OPTIMIZATION,
    )
    momentum: float = option(
        0.9,
        lambda: f"with --optimizer={joined(OPTIMIZERS.with_option('momentum'), 'or')}.",
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    nesterov: bool = option(
        False,
        lambda: f"with --optimizer={joined(OPTIMIZERS.with_option('nesterov'), 'or')}: look ahead by the momentum.",
        group=_OPTIMIZATION,
    )
    trust_coefficient: float = option(
        0.001,
        lambda: (
            f"with --optimizer={joined(OPTIMIZERS.with_option('trust_coefficient'), 'or')}: a step at learning rate 1 is this"
            " part of each layer's norm."
        ),
        group=_OPTIMIZATION,
        within=real(0, above=True),
    )
    beta_2: float = option(
        0.999,
        lambda: (
            f"decay of the squared gradient's average, with --optimizer={joined(OPTIMIZERS.with_option('beta_2'), 'or')}."
        ),
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    weight_decay: float = option(
        0.0,
        "decoupled but with lars, lamb and --weight_decay_mode=l2: every step takes learning_rate * weight_decay of each kernel"
        " off it; biases and normalization are left out.",
        group=_OPTIMIZATION,
        within=real(0),
    )
    weight_decay_mode: str = option(
        "decoupled",
        lambda: (
            f"with --optimizer={joined(OPTIMIZERS.with_option('weight_decay_mode'), 'or')}: {WEIGHT_DECAY_MODES.help()}. With"
            " momentum 0.9, 1e-4 in the second way is about 1e-3 in the first."
        ),
        group=_OPTIMIZATION,
        choices=WEIGHT_DECAY_MODES,
    )
    clip_norm: float = option(
        0.0, "clip the gradient of the global batch to this norm (0: off).", group=_OPTIMIZATION, within=real(0)
    )
    clip_agc: float = option(
        0.0,
        "clip the gradient of each unit of each layer but the head to this part of the norm of its weights (Brock et al. 2021;"
        " 0: off; try 0.01).",
        group=_OPTIMIZATION,
        within=real(0),
    )

    @functools.cached_property
    def warmup_spec(self) -> Duration:
        return Duration.parse(self._warmup, "warmup")

    @functools.cached_property
    def scale_lr_spec(self) -> ScaleSpec:
        return ScaleSpec.parse(self.scale_lr)

    @functools.cached_property
    def scaled(self) -> Scaled:
        """What --scale_lr says for this batch."""
        rate = OPTIMIZERS[self.optimizer].learning_rate if self.learning_rate is None else self.learning_rate
        return self.scale_lr_spec.scaled(self.batch_size, rate, self.beta_2)

    @functools.cached_property
    def schedule_spec(self) -> ScheduleSpec:
        return ScheduleSpec.parse(self.schedule)

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """The flags that the row of --optimizer takes."""
        return {name: getattr(self, name) for name in OPTIMIZERS[self.optimizer].options}

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the default and --scale_lr."""
        return self.scaled.rate

    @property
    def rate_factors(self) -> tuple[float, ...]:
        """What the learning rate of each of `batch_sizes` is multiplied by; empty where it is the same for all.

        Without --scale_lr=linear or sqrt a batch grows in place of a rate that falls, so the rate stays (Smith et al. 2018).
        """
        if not self.batch_ramp or not self.scale_lr_spec.base:
            return ()
        rates = [self.scale_lr_spec.scaled(size, 1.0, self.beta_2).rate for size in self.batch_sizes]
        return tuple(rate / rates[-1] for rate in rates)

    @property
    def _warmup(self) -> str:
        return (self.scaled.warmup or NO_WARMUP) if self.warmup == AUTO_WARMUP else self.warmup


def _default_rates() -> str:
    """The default learning rates of all optimizers: `0.1 for sgd, 0.001 for adam, adamw and muon`."""
    names: dict[float, list[str]] = {}
    for name, row in OPTIMIZERS.items():
        names.setdefault(row.learning_rate, []).append(name)
    return ", ".join(f"{rate:g} for {joined(group, 'and')}" for rate, group in names.items())
