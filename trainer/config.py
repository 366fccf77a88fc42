"""A run's configuration: flags become one frozen object, which is valid by construction.

Imports no TensorFlow, Keras or JAX: a wrong flag is refused before seconds are spent on starting them, and launchers validate
the runs that they submit.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping
from typing import Any

from convoy import exits, options
from convoy.bounds import real, whole
from convoy.data.config import DataConfig
from convoy.options import option
from convoy.table import joined
from convoy.trainer.flags import recipes, validation
from convoy.trainer.flags.batch_ramp import RampSpec
from convoy.trainer.flags.choices import BACKENDS, ON_NAN, PRECISIONS, STRATEGIES, WEIGHT_DECAY_MODES, XLA
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import MAX_EXAMPLES, MAX_STEPS, Duration
from convoy.trainer.flags.find_lr import RateSearch
from convoy.trainer.flags.groups import GroupsSpec, UnfreezeSpec
from convoy.trainer.flags.lookahead import LookaheadSpec
from convoy.trainer.flags.scale_lr import RULES, Scaled, ScaleSpec
from convoy.trainer.flags.specs import BatchNormSpec, DevicesSpec
from convoy.trainer.losses.names import LOSSES, LossSpec
from convoy.trainer.models.names import AUTO, DEFAULT, MODELS
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.names import SCHEDULES, ScheduleSpec

AUTO_ACCUMULATE = 0
NO_WARMUP = "0st"

# Groups of --help.
_RUN = "Run"
_MODEL = "Model"
_OPTIMIZATION = "Optimization"
_SCHEDULE = "Schedule and checkpoints"
_MACHINE = "Machine"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. Valid by construction: an impossible value raises exits.CannotRun, a sentence.

    Every batch size is global, whatever the number of devices.
    """

    run_dir: str = option(
        "",
        "where the run lives; a run that is already there is continued (default: runs/DATASET-TIME).",
        group=_RUN,
        may_change=True,
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: str = option(
        AUTO,
        lambda: (
            f"{AUTO}: the network of --pretrained, else {DEFAULT}; {MODELS.help()}; or"
            " package.module:function of your own, which takes (input_shape, num_classes) and returns a keras.Model of logits;"
            " images arrive as numbers from 0 to 1."
        ),
        group=_MODEL,
        check=validation.check_model,
    )
    pretrained: str = option(
        "",
        "begin with weights that were trained before: a .safetensors, .weights.h5 or .keras file, a folder in timm's form or a"
        " preset of KerasHub, the directory of another run, or imagenet for those that Keras publishes; here or at gs://. The"
        " head is made new but for classes of equal name (docs/pretrained.md).",
        group=_MODEL,
    )
    stochastic_depth: float = option(
        0.0,
        lambda: (
            "leave residual blocks out at random in training, at a rate that grows to this one at the last block, with"
            f" --model={joined(MODELS.with_option('stochastic_depth'), 'or')} (Huang et al. 2016; 0: off)."
        ),
        group=_MODEL,
        within=real(0, 1, below=True),
    )
    precision: str = option("auto", lambda: f"{PRECISIONS.help()}.", group=_MODEL, choices=PRECISIONS)
    batchnorm: str = option(
        "sync",
        "what BatchNormalization measures in training: sync, the batch on all devices (with --accumulate, each microbatch);"
        " local, the share of a device; ghost:N, groups of N examples; frozen, nothing: it stays as --pretrained has it.",
        group=_MODEL,
    )
    batch_size: int = option(
        128,
        "examples per optimizer step, over all devices together.",
        group=_OPTIMIZATION,
        within=whole(1, MAX_EXAMPLES),
    )
    batch_ramp: str = option(
        "",
        "begin with smaller batches: 128:5ep,256:10ep are batches of 128 for 5 epochs and of 256 for 10 more, before those of"
        " --batch_size; durations in epochs (5ep) or steps (100st) (Smith et al. 2018; docs/large-batch.md).",
        group=_OPTIMIZATION,
    )
    duration: str = option(
        "10ep",
        "how long to train: epochs (10ep), steps (600st), or minutes of steps (30min): their number is measured once, before"
        " the first step, and kept; evaluations and saves take time beside them.",
        group=_OPTIMIZATION,
    )
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
        AUTO,
        f"linear warm-up to the peak, in epochs (5ep) or steps (100st); {AUTO}: what --scale_lr says, else {NO_WARMUP}.",
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
    loss: str = option(
        "cross_entropy",
        lambda: (
            f"of training; evaluation is cross-entropy. {LOSSES.help()}. Classes count as often as --balance draws them."
        ),
        group=_OPTIMIZATION,
    )
    label_smoothing: float = option(
        0.0,
        "fraction of the target that is spread evenly over the classes in training.",
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    ema: float = option(
        0.0,
        "decay of a moving average of the weights, used for every evaluation (0: off; try 0.999).",
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    lookahead: str = option(
        "0",
        "STEPS or STEPS:ALPHA: slow weights follow every so many steps, ALPHA (0.5) of the way, lead the weights back to"
        " them, and are evaluated; for example 5:0.5 (Zhang et al. 2019; 0: off).",
        group=_OPTIMIZATION,
    )
    groups: str = option(
        "",
        "what becomes of variables whose path a pattern (RE2) is the first to match: lr= and wd= multiply"
        " --learning_rate and --weight_decay, freeze leaves them as they are, for example ^stem:freeze;^logits:lr=10,wd=0"
        " (docs/fine-tuning.md).",
        group=_OPTIMIZATION,
    )
    layer_decay: float = option(
        1.0,
        "multiply the learning rate by this once for every block of the network between a variable and the head, for example"
        " 0.75 (Howard & Ruder 2018; 1: off).",
        group=_OPTIMIZATION,
        within=real(0, 1, above=True),
    )
    unfreeze: str = option(
        "",
        "train the head alone until here, in epochs (3ep) or steps (300st), then all; with several, 3ep,6ep, the blocks below"
        " the head begin to train one part after the other, from the head down.",
        group=_OPTIMIZATION,
    )
    cache_features: bool = option(
        False,
        "compute what a frozen backbone makes of the images once, keep it in --cache_bytes of memory, and train the head on it:"
        " the same steps up to rounding, without the backbone. Needs --augment=none, and --groups or --unfreeze to freeze it.",
        group=_OPTIMIZATION,
        may_change=True,
    )
    accumulate: int = option(
        1,
        "cut every batch into this many microbatches and add up their gradients: the same step in less memory, up to"
        " rounding and to the statistics of BatchNormalization; auto: the fewest that fit into memory, tried once.",
        group=_OPTIMIZATION,
        within=whole(1, MAX_EXAMPLES),
        words={"auto": AUTO_ACCUMULATE},
    )
    remat: bool = option(
        False,
        "keep few activations of the network and compute the others again for the gradient: less memory for a longer step,"
        " and the same step up to rounding.",
        group=_OPTIMIZATION,
        may_change=True,
    )
    noise_scale: bool = option(
        False,
        "measure the gradient noise scale, the batch size beyond which larger ones save few steps (McCandlish et al. 2018), on"
        " the parts of each batch: --accumulate=2 or more, or several devices (docs/large-batch.md).",
        group=_OPTIMIZATION,
        may_change=True,
    )
    patience: int = option(
        0,
        "end the run after this many evaluations in a row that are no better than the best one (0: off).",
        group=_SCHEDULE,
        within=whole(0, MAX_STEPS),
        may_change=True,
    )
    max_minutes: float = option(
        0.0,
        "end the run after this many minutes of training, over all its attempts (0: off).",
        group=_SCHEDULE,
        within=real(0, 1e7),
        may_change=True,
    )
    eval_every: str = option("1ep", "how often to evaluate and to record.", group=_SCHEDULE, may_change=True)
    checkpoint_every: str = option("1ep", "how often to save.", group=_SCHEDULE, may_change=True)
    keep: int = option(
        2, "checkpoints to keep, besides the best.", group=_SCHEDULE, within=whole(1, 1_000_000), may_change=True
    )
    steps_per_loop: int = option(
        0,
        "steps between two checks for signals (0: as many as take half a second).",
        group=_SCHEDULE,
        within=whole(0, MAX_STEPS),
        may_change=True,
    )
    restarts: int = option(
        0,
        "how often to restart the run after exit code 42 (try again).",
        group=_SCHEDULE,
        within=whole(0, 1_000_000),
        may_change=True,
    )
    on_nan: str = option(
        "stop",
        lambda: f"after a step whose loss or gradient is not finite, {ON_NAN.help()}.",
        group=_SCHEDULE,
        choices=ON_NAN,
        may_change=True,
    )
    seed: int = option(
        0,
        "decides the order, the augmentation and the initial weights.",
        group=_MACHINE,
        within=whole(-(2**31), 2**31 - 1),
    )
    deterministic: bool = option(
        False,
        "the same bits every time on the same machine, at some cost in speed; input wait is not measured then.",
        group=_MACHINE,
    )
    devices: str = option(
        "auto",
        "of each process: cpu:N (N logical devices that share the cores: for tests), gpu:N, or with --backend=jax tpu:N;"
        " auto: all accelerators, else cpu:1.",
        group=_MACHINE,
        may_change=True,
    )
    backend: str = option(
        "tensorflow",
        lambda: f"{BACKENDS.help()}; a run may change it when it continues.",
        group=_MACHINE,
        choices=BACKENDS,
        may_change=True,
    )
    strategy: str = option(
        "auto",
        lambda: f"how a step is spread over devices: {STRATEGIES.help()}.",
        group=_MACHINE,
        choices=STRATEGIES,
        may_change=True,
    )
    xla: str = option(
        "auto",
        lambda: f"whether XLA compiles a step of TensorFlow: {XLA.help()}. JAX always compiles.",
        group=_MACHINE,
        choices=XLA,
        may_change=True,
    )
    hang_timeout: float | None = option(
        None,
        "seconds without a finished loop or another heartbeat after which a process prints the stacks of its threads and"
        " ends with 42 (0: never; default: 120 where several processes share the run, else 0).",
        group=_MACHINE,
        within=real(0, 1e9),
        may_change=True,
    )

    # Flags that are small languages, parsed once; __post_init__ refuses those that do not parse.

    @functools.cached_property
    def duration_spec(self) -> Duration:
        return Duration.parse(self.duration, "duration", positive=True, minutes=True)

    @functools.cached_property
    def batch_ramp_spec(self) -> RampSpec:
        return RampSpec.parse(self.batch_ramp)

    @functools.cached_property
    def warmup_spec(self) -> Duration:
        return Duration.parse(self._warmup, "warmup")

    @functools.cached_property
    def eval_every_spec(self) -> Duration:
        return Duration.parse(self.eval_every, "eval_every", positive=True)

    @functools.cached_property
    def checkpoint_every_spec(self) -> Duration:
        return Duration.parse(self.checkpoint_every, "checkpoint_every", positive=True)

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

    @functools.cached_property
    def loss_spec(self) -> LossSpec:
        return LossSpec.parse(self.loss)

    @functools.cached_property
    def batchnorm_spec(self) -> BatchNormSpec:
        return BatchNormSpec.parse(self.batchnorm)

    @functools.cached_property
    def lookahead_spec(self) -> LookaheadSpec:
        return LookaheadSpec.parse(self.lookahead)

    @functools.cached_property
    def groups_spec(self) -> GroupsSpec:
        return GroupsSpec.parse(self.groups)

    @functools.cached_property
    def unfreeze_spec(self) -> UnfreezeSpec:
        return UnfreezeSpec.parse(self.unfreeze)

    @functools.cached_property
    def devices_spec(self) -> DevicesSpec:
        return DevicesSpec.parse(self.devices)

    def __post_init__(self) -> None:
        options.check(self)
        for name, member in vars(RunConfig).items():
            if isinstance(member, functools.cached_property):
                getattr(self, name)
        given = {name: value for name, value in vars(self).items() if value != _DEFAULTS.get(name, value)}
        validation.check_batch(self.batch_size, self.accumulate)
        validation.check_ramp(self.batch_ramp_spec, self.batch_size, self.duration_spec, self.scale_lr_spec)
        validation.check_patience(self.patience, self.data.eval_split)
        freezes = bool(self.groups or self.unfreeze)
        validation.check_features(self.cache_features, self.data.augment, freezes, self.duration_spec)
        validation.check_scaling(self.scale_lr_spec, self.optimizer, self.learning_rate)
        validation.check_peak(self.scale_lr, self.peak_learning_rate)
        validation.check_end(self.schedule_spec, self.peak_learning_rate)
        if self.model != AUTO or not self.pretrained:
            validation.check_options("model", DEFAULT if self.model == AUTO else self.model, MODELS, given)
        validation.check_options("optimizer", self.optimizer, OPTIMIZERS, given)
        validation.check_averages(self.lookahead_spec, self.optimizer, OPTIMIZERS[self.optimizer].averages)
        validation.check_clipping(self.clip_norm, self.clip_agc)
        validation.check_machine(self.backend, self.devices_spec, self.strategy, self.precision, self.xla)

    def hang_seconds(self, processes: int) -> float:
        """--hang_timeout in seconds; 0, for ever, is the default of a run that shares its steps with no other process."""
        return self.hang_timeout if self.hang_timeout is not None else 120.0 if processes > 1 else 0.0

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
        return (self.scaled.warmup or NO_WARMUP) if self.warmup == AUTO else self.warmup

    @property
    def model_options(self) -> dict[str, Any]:
        """The flags that the row of --model takes; none for a user's own model."""
        return {name: getattr(self, name) for name in (MODELS[self.model].options if self.model in MODELS else ())}

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """The flags that the row of --optimizer takes."""
        return {name: getattr(self, name) for name in OPTIMIZERS[self.optimizer].options}

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Of all steps, in the order in which they come."""
        return (*self.batch_ramp_spec.sizes, self.batch_size)

    def microbatches(self, batch_size: int) -> int:
        """--accumulate, for a batch of this size: a smaller one has fewer microbatches of the same size, or a smaller one."""
        return -(-self.accumulate * batch_size // self.batch_size)

    def clock(self, examples: int) -> Clock:
        """Which examples a step trains on, where an epoch has so many; CannotRun for a --batch_ramp that no run has."""
        return self.batch_ramp_spec.clock(examples, self.batch_size)

    def total_steps(self, examples: int) -> int:
        """Steps of the whole run, the last of which may go beyond --duration; CannotRun for more than can be counted."""
        clock = self.clock(examples)
        steps = self.duration_spec.steps(clock)
        if steps > MAX_STEPS:
            raise options.impossible("duration", self.duration, f"it is {steps:,} steps; give at most {MAX_STEPS:,}")
        self.batch_ramp_spec.check_end(clock, steps)
        return steps

    def unfreeze_borders(self, examples: int) -> tuple[int, ...]:
        """The steps at which more of the network begins to train, --unfreeze; CannotRun for some that no run has."""
        return self.unfreeze_spec.steps(self.clock(examples), self.total_steps(examples))

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
        if config.warmup == AUTO:
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


def _default_rates() -> str:
    """The default learning rates of all optimizers: `0.1 for sgd, 0.001 for adam, adamw and muon`."""
    names: dict[float, list[str]] = {}
    for name, row in OPTIMIZERS.items():
        names.setdefault(row.learning_rate, []).append(name)
    return ", ".join(f"{rate:g} for {joined(group, 'and')}" for rate, group in names.items())
