"""How fast the input is, how fast the step, and how fast both together. `convoy bench input` says how that is asked for."""

from __future__ import annotations

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from convoy import exits, terminal
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.outside import printable
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.engines.steps_per_loop import StepsPerLoop
from convoy.trainer.experiment import Experiment, build
from convoy.trainer.outputs import advice

CACHED = 2  # batches that the step alone is measured on
PARTS = ("loader", "step", "together")


def measure(config: RunConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """What `--json` prints. Speeds are in images a second: the median of the rounds, and the least and the most.

    `bound` is what `together` can be at best: on a CPU, where input and step share the cores, 1 / (1 / loader + 1 / step);
    on accelerators the slower of the two. `input_wait_fraction` is measured in the loop, None with --deterministic.

    Args:
      config: of the run that is measured.
      rounds: how often each part is measured, in turn.
      seconds: of each measurement.
    """
    if config.duration_spec.in_minutes:  # the length of the run changes no speed
        config = dataclasses.replace(config, duration=RunConfig().duration)
    config = dataclasses.replace(config, batch_ramp="")  # which is about other batches than --batch_size
    experiment = build(config, single_process=True)
    config = experiment.config
    speeds: dict[str, list[float]] = {part: [] for part in PARTS}
    waits: list[float] = []
    for _ in range(rounds):
        loader, step = _loader(experiment, seconds), _step(experiment, seconds)
        together, wait = with_input(experiment, seconds)
        for part, rate in zip(PARTS, (loader, step, together), strict=True):
            speeds[part].append(rate * config.batch_size)
        if wait is not None:
            waits.append(wait)
    medians = {part: statistics.median(speeds[part]) for part in PARTS}
    single = (medians["loader"], medians["step"])
    share_the_cores = config.devices_spec.platform == "cpu"
    bound = 1 / sum(1 / rate for rate in single) if share_the_cores else min(single)
    wait_fraction = statistics.median(waits) if waits else None
    return {
        **{name: getattr(config.data, name) for name in ("dataset", "augment", "balance")},
        **{name: getattr(config, name) for name in ("model", "batch_size", "precision", "backend", "devices")},
        **{
            part: {"images_per_second": medians[part], "least": min(speeds[part]), "most": max(speeds[part])}
            for part in PARTS
        },
        "input_wait_fraction": wait_fraction,
        "bound": {"images_per_second": bound, "reached": medians["together"] / bound},
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "verdict": advice.input_advice(wait_fraction, config.data),
    }


def _loader(experiment: Experiment, seconds: float) -> float:
    """Batches a second of the input alone."""
    config, train, replicas = experiment.config, experiment.data.train, experiment.engine.replicas
    sharding = BatchSharding(config.batch_size, config.accumulate, replicas, 0, replicas)
    try:
        fetch = fetcher(training_stream(train, sharding, config.data, config.seed, 0))
        return rate(lambda steps: fetch(steps * replicas), seconds)
    except tf.errors.OpError as error:
        if sentence := train.explain():
            raise exits.BadData(sentence) from error
        raise


def _step(experiment: Experiment, seconds: float) -> float:
    """Steps a second on batches that lie in memory."""
    engine = experiment.engine
    engine.feed(experiment.data.train, 0, cached=CACHED)
    return rate(lambda steps: train(engine, steps), seconds)


def with_input(experiment: Experiment, seconds: float) -> tuple[float, float | None]:
    """Steps a second as in training, and the fraction of the time that they wait for data; None if it is not measured."""
    engine = experiment.engine
    engine.feed(experiment.data.train, 0)
    waits: list[float] = []
    times: list[float] = []

    def loop(steps: int) -> None:
        begun = time.perf_counter()
        waits.append(train(engine, steps) or 0.0)
        times.append(time.perf_counter() - begun)

    steps = rate(loop, seconds)
    return steps, None if experiment.config.deterministic else sum(waits) / sum(times)


def fetcher(stream: Any) -> Callable[[int], None]:
    """`fetch(count)` takes so many elements inside a graph, where no Python stands between two of them."""
    iterator = iter(stream)

    @tf.function(autograph=False)
    def loop(count: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies(tf.nest.flatten(iterator.get_next())):
                return index + 1

        return tf.while_loop(lambda index: index < count, body, [tf.constant(0)], parallel_iterations=1)

    return lambda count: loop(tf.constant(count))


def train(engine: Engine, steps: int) -> float | None:
    """Trains so many steps; returns the seconds that they waited for input."""
    result = engine.train(steps)
    if not result.finite:
        raise exits.Diverged(
            "the loss is no longer finite, so the speed would be that of no real run; lower --learning_rate."
        )
    return result.input_wait_seconds


def rate(work: Callable[[int], object], seconds: float) -> float:
    """How many steps a second `work(steps)` makes, over at least `seconds`; what the first call compiles is left out."""
    steps_per_loop, done, spent = StepsPerLoop(), 0, 0.0
    work(CACHED)
    steps_per_loop.record(CACHED, 0.0)
    while spent < seconds:
        steps = steps_per_loop.steps(2**30)
        begun = time.perf_counter()
        work(steps)
        duration = time.perf_counter() - begun
        steps_per_loop.record(steps, duration)
        done, spent = done + steps, spent + duration
    return done / spent


def show(measurement: dict[str, Any]) -> None:
    """The measurement as a table, and the verdict."""
    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, soft_wrap=True)
    table = Table("", box=None, pad_edge=False)
    for name in ("images/s", "least", "most"):
        table.add_column(name, justify="right")
    for part, name in zip(PARTS, ("input alone", "step alone", "together"), strict=True):
        table.add_row(name, *(f"{measurement[part][key]:,.0f}" for key in ("images_per_second", "least", "most")))
    console.print(table)
    reached, wait = measurement["bound"]["reached"], measurement["input_wait_fraction"]
    console.print(
        f"Together {reached:.0%} of what these two allow"
        + ("" if wait is None else f"; {wait:.0%} of the time is spent waiting for data")
        + f"; {measurement['peak_rss_bytes'] / 2**20:,.0f} MiB at most.",
        markup=False,
    )
    if measurement["verdict"]:
        console.print(printable(measurement["verdict"]), markup=False)
