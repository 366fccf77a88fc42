"""What a RunConfig must satisfy beyond single flags: one sentence for each combination that no run can have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convoy.bounds import real
from convoy.options import impossible
from convoy.table import E, Table, joined
from convoy.trainer.models.names import MODELS
from convoy.trainer.optimizers.names import OPTIMIZERS

if TYPE_CHECKING:
    from convoy.trainer.config import RunConfig

_OWN_MODEL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_POSITIVE = real(0, above=True)


def check_model(name: str) -> None:
    """Raises exits.CannotRun for a --model that is no row and not written as a user's own."""
    if ":" in name:
        _require(_OWN_MODEL.fullmatch(name), "model", name, "write your own as package.module:function")
    else:
        remedy = f"{MODELS.near(name)} A model of your own is written package.module:function."
        _require(name in MODELS, "model", name, remedy)


def check(config: RunConfig) -> None:
    """Raises exits.CannotRun at the first combination that is impossible; every flag alone is possible."""
    _require(config.accumulate <= config.batch_size, "accumulate", config.accumulate,
             f"give at most {config.batch_size}, since a batch has no more examples to cut into microbatches")  # fmt: skip
    peak = config.peak_learning_rate
    _require(_POSITIVE.holds(peak), "scale_lr", config.scale_lr, f"it makes a learning rate of {peak:g}; give another")
    _check_options(config, "model", MODELS)
    _check_options(config, "optimizer", OPTIMIZERS)
    _check_machine(config)


def _check_options(config: RunConfig, flag: str, table: Table[E]) -> None:
    """A flag that only some rows take has its default with the others."""
    chosen = getattr(config, flag)
    taken = table[chosen].options if chosen in table else ()
    for option in {name for row in table.values() for name in row.options if name not in taken}:
        value = getattr(config, option)
        names = joined(table.with_option(option), "or")
        remedy = f"--{flag}={chosen} does not take it; remove this flag or give --{flag}={names}"
        _require(value == type(config).__dataclass_fields__[option].default, option, value, remedy)


def _check_machine(config: RunConfig) -> None:
    """Combinations that no machine can run."""
    platform, strategy = config.devices_spec.platform, config.strategy
    if config.backend == "jax":
        _require(config.xla != "off", "xla", config.xla, "JAX compiles everything; leave it out with --backend=jax")
        _require(
            strategy != "tpu", "strategy", strategy, "that is TensorFlow's; with --backend=jax give --devices=tpu:N"
        )
        return
    _require(
        platform != "tpu", "devices", config.devices, "with TensorFlow give --strategy=tpu; or --backend=jax with it"
    )
    if strategy == "tpu":
        _require(
            config.devices_spec.is_auto, "devices", config.devices,
            "--strategy=tpu takes all cores that it finds; leave it out",
        )  # fmt: skip
        _require(config.precision not in ("float64", "mixed_float16"), "precision", config.precision,
                 "a TPU computes in float32 and bfloat16; give float32 or mixed_bfloat16")  # fmt: skip
        _require(config.xla != "off", "xla", config.xla, "a TPU computes what XLA compiled; leave it out")
    if config.xla == "on":
        _require(strategy in ("auto", "one", "tpu"), "xla", config.xla,
                 f"it is built for one device, not --strategy={strategy}; leave it out, or give --backend=jax, which"
                 " compiles for all devices")  # fmt: skip


def _require(condition: object, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise impossible(flag, value, remedy)
