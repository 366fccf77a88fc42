"""`convoy train --find_lr`: trains at rising learning rates, writes the losses and the curve, and names a rate."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

from convoy import exits, heartbeat
from convoy.store import Store
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.experiment import build
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.outputs import curves
from convoy.trainer.run_dir.files import RATES
from convoy.trainer.schedules.range_test import HIGH, LOW, STEPS, RangeTest

_LOOP = 10  # steps between two looks at the loss


def search(config: RunConfig, store: Store) -> RangeTest:
    """Trains, and writes find_lr.json and find_lr.png.

    Args:
      config: of the run that a learning rate is wanted for; its own rate and schedule do not count.
      store: where to write.
    """
    experiment = build(settings(config), single_process=True, load=bool(config.pretrained))
    engine = experiment.engine
    for note in engine.notes:
        print(f"  Note: {note}", flush=True)
    with heartbeat.beating():
        engine.feed(experiment.data.train, 0)
        engine.compile()
    result = RangeTest.of_losses([engine.learning_rate(step) for step in range(STEPS)], losses(engine))
    steps = zip(result.rates, result.losses, result.smoothed, strict=True)
    record = {
        "learning_rate": result.rate,
        "sentence": result.sentence,
        "flags": experiment.config.to_dict(),
        "steps": [
            {"step": step, "learning_rate": rate, "loss": loss, "smoothed_loss": smoothed}
            for step, (rate, loss, smoothed) in enumerate(steps)
        ],
    }
    store.put(RATES, json.dumps(record, indent=1).encode())
    curves.draw_range_test(store, result, f"{experiment.data.dataset.name}, {config.model}, {config.optimizer}")
    return result


def settings(config: RunConfig) -> RunConfig:
    """The same run at rates that rise; what would average over steps, cut it short or leave steps out is off."""
    if config.unfreeze:
        raise exits.CannotRun(
            "--find_lr tries one rate for all of a network, and with --unfreeze parts begin to train later; leave --unfreeze"
            " out, or have the head alone tried with --groups='^logits/:lr=1;.:freeze'."
        )
    if config.batch_ramp:
        raise exits.CannotRun(
            "--find_lr tries one rate for one batch, and --batch_ramp has several; leave --batch_ramp out, and give the"
            " --batch_size that a rate is wanted for."
        )
    own = OPTIMIZERS[config.optimizer].learning_rate
    return dataclasses.replace(
        config,
        duration=f"{STEPS}st",
        learning_rate=own * HIGH,
        scale_lr="none",
        schedule=f"rising:{LOW / HIGH:g}",
        warmup="0st",
        ema=0.0,
        cache_features=False,
        patience=0,
        max_minutes=0.0,
        on_nan="stop",
        deterministic=True,
    )


def losses(engine: Engine) -> Sequence[float]:
    """The losses of the steps, up to one that is not finite or shows that the rest would not be."""
    measured: list[float] = []
    while len(measured) < STEPS and not RangeTest.of_losses([0.0] * STEPS, measured).ends:
        result = engine.train(min(_LOOP, STEPS - len(measured)))
        heartbeat.beat()
        measured += result.losses.tolist()
        if not result.finite:  # the loss, or the gradient alone
            return [*measured[:-1], math.nan]
    return measured
