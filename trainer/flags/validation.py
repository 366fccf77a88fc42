"""What a RunConfig must satisfy: one sentence per flag that cannot be, with the value and the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convoy import options
from convoy.bounds import real
from convoy.table import near
from convoy.trainer.flags.choices import (
    BACKENDS,
    MODELS,
    ON_NAN,
    OPTIMIZERS,
    PRECISIONS,
    RESNETS,
    STRATEGIES,
    XLA,
)

if TYPE_CHECKING:
    from convoy.trainer.config import RunConfig

_MODEL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_POSITIVE = real(0, above=True)


def check(config: RunConfig) -> None:
    """Raises exits.CannotRun at the first impossible value."""
    options.check(config)
    _require(config.accumulate <= config.batch_size, "accumulate", config.accumulate,
             f"give at most {config.batch_size}, for there are no more examples in a batch to cut into parts")  # fmt: skip
    _require(config.on_nan in ON_NAN, "on_nan", config.on_nan, near(config.on_nan, ON_NAN))
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
        own = "A model of your own is written package.module:function"
        _require(config.model in MODELS, "model", config.model, f"{near(config.model, MODELS)} {own}")
    if config.stochastic_depth:
        remedy = f"--model={config.model} has no blocks to leave out; remove this flag or give --model={' or '.join(RESNETS)}"
        _require(config.model in RESNETS, "stochastic_depth", config.stochastic_depth, remedy)


def _check_machine(config: RunConfig) -> None:
    """Combinations that no machine can run."""
    kind, strategy = config.devices_spec.platform, config.strategy
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


def _require(condition: object, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise options.impossible(flag, value, remedy)
