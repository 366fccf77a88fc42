"""What a RunConfig must satisfy: one sentence per flag that cannot be, with the value and the remedy."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from convoy import bounds, options
from convoy.bounds import real, whole
from convoy.trainer.flags.choices import (
    BACKENDS,
    LOSSES,
    MODELS,
    ON_NAN,
    OPTIMIZERS,
    PRECISIONS,
    RESNETS,
    SCHEDULES,
    STRATEGIES,
    XLA,
    near,
)
from convoy.trainer.flags.durations import MOST_EXAMPLES, Duration

if TYPE_CHECKING:
    from convoy.trainer.config import RunConfig

_SCALE = re.compile(r"none|(linear|sqrt):([1-9][0-9]{0,11})")
_DEVICES = re.compile(r"auto|(cpu|gpu|tpu):([1-9][0-9]*)")
_BATCHNORM = re.compile(r"sync|local|ghost:([1-9][0-9]*)")
_MODEL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_MOST_DEVICES = 1024  # of a process
_POSITIVE = real(0, above=True)


def check(config: RunConfig) -> None:
    """Raises exits.CannotRun at the first impossible value."""
    options.check(config)
    _require(config.accumulate <= config.batch_size, "accumulate", config.accumulate,
             f"give at most {config.batch_size}, for there are no more examples in a batch to cut into parts")  # fmt: skip
    for flag in ("duration", "eval_every", "checkpoint_every"):
        value = getattr(config, flag)
        _require(Duration.parse(value, flag).amount > 0, flag, value, "give a duration above zero")
    Duration.parse(config.warmup, "warmup")
    _require(config.on_nan in ON_NAN, "on_nan", config.on_nan, near(config.on_nan, ON_NAN))
    _require(_SCALE.fullmatch(config.scale_lr), "scale_lr", config.scale_lr,
             "give none, linear:BASE or sqrt:BASE with a whole number of up to 12 digits, for example linear:256")  # fmt: skip
    check_schedule(config.schedule)
    check_loss(config.loss)
    _check_count(_DEVICES, 2, _MOST_DEVICES, "devices", config.devices, "give auto, cpu:N, gpu:N or tpu:N")
    _check_count(_BATCHNORM, 1, MOST_EXAMPLES, "batchnorm", config.batchnorm,
                 "give sync, local or ghost:N, for example ghost:32")  # fmt: skip
    _require(config.strategy in STRATEGIES, "strategy", config.strategy, near(config.strategy, STRATEGIES))
    _require(config.precision in PRECISIONS, "precision", config.precision, near(config.precision, PRECISIONS))
    _require(config.optimizer in OPTIMIZERS, "optimizer", config.optimizer, near(config.optimizer, OPTIMIZERS))
    peak = config.peak_learning_rate
    _require(_POSITIVE.holds(peak), "scale_lr", config.scale_lr, f"it makes a learning rate of {peak:g}; give another")
    _require(config.backend in BACKENDS, "backend", config.backend, near(config.backend, BACKENDS))
    _require(config.xla in XLA, "xla", config.xla, near(config.xla, XLA))
    _check_machine(config)
    if ":" in config.model:
        _require(_MODEL.fullmatch(config.model), "model", config.model, "write your own as package.module:function")
    else:
        own = "a model of your own is written package.module:function"
        _require(config.model in MODELS, "model", config.model, f"{near(config.model, MODELS)}; {own}")
    if config.stochastic_depth:
        remedy = f"--model={config.model} has no blocks to leave out; remove this flag or give --model={' or '.join(RESNETS)}"
        _require(config.model in RESNETS, "stochastic_depth", config.stochastic_depth, remedy)


def _check_count(form: re.Pattern[str], group: int, most: int, flag: str, value: str, remedy: str) -> None:
    """For a flag that may hold a count, as a group of its form."""
    match = form.fullmatch(value)
    _require(match, flag, value, remedy)
    if match and match[group]:
        _require(len(match[group]) <= 12 and int(match[group]) <= most, flag, value, f"N is {whole(1, most)}")


def _check_machine(config: RunConfig) -> None:
    """Combinations that no machine can run."""
    kind, strategy = config.devices.partition(":")[0], config.strategy
    if config.backend == "jax":
        _require(config.xla != "off", "xla", config.xla, "JAX compiles everything; leave it out with --backend=jax")
        _require(
            strategy != "tpu", "strategy", strategy, "that is TensorFlow's; with --backend=jax give --devices=tpu:N"
        )
    else:
        _require(
            kind != "tpu", "devices", config.devices, "with TensorFlow give --strategy=tpu; or --backend=jax with it"
        )
        if strategy == "tpu":
            _require(
                kind == "auto", "devices", config.devices, "--strategy=tpu takes all cores that it finds; leave it out"
            )
            _require(config.precision not in ("float64", "mixed_float16"), "precision", config.precision,
                     "a TPU computes in float32 and bfloat16; give float32 or mixed_bfloat16")  # fmt: skip
            _require(config.xla != "off", "xla", config.xla, "a TPU computes what XLA compiled; leave it out")
        if config.xla == "on":
            _require(strategy in ("auto", "one", "tpu"), "xla", config.xla,
                     f"it is built for one device, not --strategy={strategy}; leave it out, or give --backend=jax, which"
                     " compiles for all devices")  # fmt: skip


def check_schedule(text: str) -> tuple[str, tuple[float, ...]]:
    """--schedule -> (kind, its numbers): the power of polynomial, the fractions of step."""
    kind, _, rest = text.partition(":")
    _require(kind in SCHEDULES, "schedule", text, near(kind, SCHEDULES))
    try:
        numbers = tuple(bounds.number(number) for number in rest.split(",")) if rest else ()
    except ValueError:
        numbers = (math.nan,)
    if kind == "polynomial":
        numbers = numbers or (2.0,)
        right = len(numbers) == 1 and _POSITIVE.holds(numbers[0])
        _require(right, "schedule", text, f"give one power above 0, {_POSITIVE}, for example polynomial:2")
    elif kind == "step":
        numbers = numbers or (1 / 3, 2 / 3)
        right = all(0 < a < 1 for a in numbers) and list(numbers) == sorted(set(numbers))
        _require(right, "schedule", text, "give rising fractions of the run, for example step:0.33,0.67,0.9")
    else:
        _require(not rest, "schedule", text, f"{kind} takes no numbers")
    return kind, numbers


def check_loss(text: str) -> tuple[str, float]:
    """--loss -> (kind, its number): gamma of focal, tau of logit_adjusted and balanced_softmax, beta of weighted.

    Inverse frequency is beta = 1, where the effective number of examples becomes their number.
    """
    kind, _, rest = text.partition(":")
    _require(kind in LOSSES, "loss", text, near(kind, LOSSES))
    if text in (kind, "weighted:inverse"):
        return kind, 2.0 if kind == "focal" else 1.0
    try:
        number = bounds.number(rest)
    except ValueError:
        number = math.nan
    if kind == "weighted":
        remedy = "give weighted:inverse, or a beta between 0 and 1, for example weighted:0.999"
        _require(0 < number < 1, "loss", text, remedy)
    else:
        _require(kind in ("focal", "logit_adjusted"), "loss", text, f"{kind} takes no number")
        _require(_POSITIVE.holds(number), "loss", text, f"give one number above 0, {_POSITIVE}, for example {kind}:1.5")
    return kind, number


def _require(condition: object, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise options.impossible(flag, value, remedy)
