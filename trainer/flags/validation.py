"""Checks of flags beyond their bounds and choices: one sentence for each value or combination that no run can have."""

from __future__ import annotations

import re
from collections.abc import Mapping

from convoy.bounds import real
from convoy.options import impossible
from convoy.table import E, Table, joined, near
from convoy.trainer.flags.batch_ramp import RampSpec
from convoy.trainer.flags.durations import Duration
from convoy.trainer.flags.lookahead import LookaheadSpec
from convoy.trainer.flags.scale_lr import ScaleSpec
from convoy.trainer.flags.specs import DevicesSpec
from convoy.trainer.models.names import AUTO, MODELS, is_users_own
from convoy.trainer.schedules.names import ScheduleSpec

_OWN_MODEL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_POSITIVE = real(0, above=True)


def check_model(name: str) -> None:
    """Raises exits.CannotRun for a --model that is no row and not written as a user's own."""
    prefix, _, argument = name.partition(":")
    if name == AUTO:
        return
    if is_users_own(name):
        _require(_OWN_MODEL.fullmatch(name), "model", name, "write your own as package.module:function")
    elif prefix not in MODELS:
        remedy = f"{MODELS.near(name)} A model of your own is written package.module:function."
        raise impossible("model", name, remedy)
    elif MODELS[prefix].argument:
        otherwise = f"`convoy models` lists the networks of {prefix}."
        _require(
            argument in MODELS[prefix].networks,
            "model",
            name,
            near(argument, MODELS[prefix].networks, otherwise, f"{prefix}:{{}}"),
        )


def check_batch(batch_size: int, accumulate: int) -> None:
    """Raises exits.CannotRun for more microbatches than examples."""
    remedy = f"give at most {batch_size}, since a batch has no more examples to cut into microbatches"
    _require(accumulate <= batch_size, "accumulate", accumulate, remedy)


def check_ramp(ramp: RampSpec, batch_size: int, duration: Duration, scaling: ScaleSpec) -> None:
    """Raises exits.CannotRun for batches that do not grow up to --batch_size, and for flags that know of one batch only."""
    if not ramp.rungs:
        return
    remedy = f"its sizes come before --batch_size={batch_size}; give smaller ones"
    _require(ramp.sizes[-1] < batch_size, "batch_ramp", ramp, remedy)
    remedy = (
        f"--duration={float(duration.amount):g}min measures steps of one size; give a --duration in epochs or steps"
    )
    _require(not duration.in_minutes, "batch_ramp", ramp, remedy)
    remedy = f"--scale_lr={scaling} names a rate for one batch; give linear:BASE, sqrt:BASE or none"
    _require(not scaling.row.settles, "batch_ramp", ramp, remedy)


def check_patience(patience: int, eval_split: str) -> None:
    """Raises exits.CannotRun for evaluations that are counted where there are none."""
    remedy = "--eval_split=none leaves no evaluations to count; remove one of the two flags"
    _require(not patience or eval_split != "none", "patience", patience, remedy)


def check_features(cached: bool, augment: str, freezes: bool, duration: Duration) -> None:
    """Raises exits.CannotRun for features that are not the same in every epoch."""
    if not cached:
        return
    if augment != "none":
        remedy = f"--augment={augment} makes another image of each in every epoch; remove one of the two flags"
        raise impossible("cache_features", "true", remedy)
    remedy = "the backbone trains; freeze it with --groups='^logits/:lr=1;.:freeze', or until --unfreeze"
    _require(freezes, "cache_features", "true", remedy)
    remedy = "the steps that would be measured are not those of kept features; give a --duration in epochs or steps"
    _require(not duration.in_minutes, "cache_features", "true", remedy)


def check_peak(scale_lr: str, peak: float) -> None:
    """Raises exits.CannotRun for a scaled learning rate that is out of bounds."""
    _require(_POSITIVE.holds(peak), "scale_lr", scale_lr, f"it makes a learning rate of {peak:g}; give another")


def check_scaling(spec: ScaleSpec, optimizer: str, learning_rate: float | None) -> None:
    """Raises exits.CannotRun for a rule of other optimizers, and for a learning rate beside a rule that names it."""
    optimizers = spec.row.optimizers
    remedy = (
        f"it is a rule for --optimizer={joined(optimizers, 'or')}; give that, linear:BASE or sqrt:BASE"
        if optimizers
        else ""
    )
    _require(not optimizers or optimizer in optimizers, "scale_lr", spec, remedy)
    remedy = f"the rule names the learning rate; remove it, or --learning_rate={learning_rate}"
    _require(learning_rate is None or not spec.row.names_rate, "scale_lr", spec, remedy)


def check_end(schedule: ScheduleSpec, peak: float) -> None:
    """Raises exits.CannotRun for a schedule that would end above its peak."""
    remedy = f"it would rise from the peak, {peak:g}, to {schedule.end:g}; give a lower END"
    _require(schedule.end <= peak, "schedule", schedule, remedy)


def check_options(flag: str, chosen: str, table: Table[E], given: Mapping[str, object]) -> None:
    """Raises exits.CannotRun for a flag that other rows of a table take, but not the row that is chosen.

    Args:
      flag: the flag that chooses a row.
      chosen: its value.
      table: the rows.
      given: the flags that differ from their defaults, with their values.
    """
    taken = table[chosen].options if chosen in table else ()
    for option, value in given.items():
        names = table.with_option(option)
        if names and option not in taken:
            remedy = f"--{flag}={chosen} does not take it; remove this flag or give --{flag}={joined(names, 'or')}"
            raise impossible(option, value, remedy)


def check_averages(lookahead: LookaheadSpec, optimizer: str, averages: bool) -> None:
    """Raises exits.CannotRun for slow weights beside the average of an optimizer that has one."""
    remedy = f"--optimizer={optimizer} evaluates an average of its own; remove one of the two flags"
    _require(not (lookahead.interval and averages), "lookahead", lookahead, remedy)


def check_clipping(clip_norm: float, clip_agc: float) -> None:
    """Raises exits.CannotRun for two ways to clip."""
    remedy = f"--clip_norm={clip_norm:g} clips too, in another way; remove one of the two flags"
    _require(not (clip_norm and clip_agc), "clip_agc", f"{clip_agc:g}", remedy)


def check_compile_cache(place: str, trusted: bool) -> None:
    """Raises exits.CannotRun for what is no place for compiled programs, and for a bucket that the person does not trust."""
    scheme, separator, _ = place.partition("://")
    remedy = "give auto, off, a folder, or gs://BUCKET/PATH"
    _require(bool(place) and (not separator or scheme == "gs"), "compile_cache", place, remedy)
    remedy = (
        "whoever may write to that bucket can run code as you; give --trust_compile_cache too if you trust them all, or a"
        " folder of yours"
    )
    _require(not separator or trusted, "compile_cache", place, remedy)


def check_machine(backend: str, devices: DevicesSpec, strategy: str, precision: str, xla: str) -> None:
    """Raises exits.CannotRun for a combination that no machine can run."""
    if backend == "jax":
        _require(xla != "off", "xla", xla, "JAX compiles everything; leave it out with --backend=jax")
        _require(
            strategy != "tpu", "strategy", strategy, "that is TensorFlow's; with --backend=jax give --devices=tpu:N"
        )
        return
    remedy = "with TensorFlow give --strategy=tpu; or --backend=jax with it"
    _require(devices.platform != "tpu", "devices", devices, remedy)
    if strategy == "tpu":
        remedy = "--strategy=tpu takes all cores that it finds; leave it out"
        _require(devices.is_auto, "devices", devices, remedy)
        remedy = "a TPU computes in float32 and bfloat16; give float32 or mixed_bfloat16"
        _require(precision not in ("float64", "mixed_float16"), "precision", precision, remedy)
        _require(xla != "off", "xla", xla, "a TPU computes what XLA compiled; leave it out")
    if xla == "on":
        remedy = (
            f"it is built for one device, not --strategy={strategy}; leave it out, or give --backend=jax, which compiles for"
            " all devices"
        )
        _require(strategy in ("auto", "one", "tpu"), "xla", xla, remedy)


def check_checkpoint(which: str) -> None:
    """Raises exits.CannotRun for what names no checkpoint of a run."""
    _require(re.fullmatch("last|best|[0-9]{1,12}", which), "checkpoint", which, "give last, best or a step")


def _require(condition: object, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise impossible(flag, value, remedy)
