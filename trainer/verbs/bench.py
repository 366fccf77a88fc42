"""`convoy bench input`: how fast the input is, how fast the step, and how fast both together.

`python -m convoy.trainer.verbs.bench input FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from convoy import exits, options, supervise, terminal
from convoy.bounds import real, whole
from convoy.data.config import DataConfig
from convoy.options import option
from convoy.outside import printable
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.outputs import advice

USAGE = """usage: convoy bench input [--flag=value ...]

Measures, for the flags of a run: the input alone (read, decoded, augmented, batched, dealt), the step alone (on batches that
lie in memory), and both together, in turn. Nothing is written."""

CACHED = 2  # batches that the step alone is measured on
PARTS = ("loader", "step", "together")


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """How long to measure."""

    rounds: int = option(
        3, "how often each is measured, in turn; the median counts.", group="Measurement", within=whole(1, 1000)
    )
    seconds: float = option(3.0, "of each measurement.", group="Measurement", within=real(0, 86_400, above=True))
    json: bool = option(False, "print one JSON object and nothing else.", group="Measurement")

    def __post_init__(self) -> None:
        options.check(self)


def measure(config: RunConfig, bench: BenchConfig) -> dict[str, Any]:
    """What `--json` prints. Speeds are in images a second: the median of the rounds, and the least and the most.

    `bound` is what `together` can be at best: on a CPU, where input and step share the cores, 1 / (1 / loader + 1 / step);
    on accelerators the slower of the two. `input_wait_fraction` is measured in the loop, None with --deterministic.
    """
    backend = engines.choose(config.backend)
    import numpy as np
    import tensorflow as tf

    from convoy.data import splits
    from convoy.data.balance import draws_per_class
    from convoy.data.pipeline import training_stream
    from convoy.data.sources import open_dataset

    runtime = backend.prepare(config, alone=True)
    dataset = open_dataset(config.data)
    config = dataclasses.replace(runtime.config, data=splits.resolve(config.data, dataset))
    runtime = dataclasses.replace(runtime, config=config)
    train, _ = splits.train_and_eval(config.data, dataset)
    counts = np.bincount(train.labels, minlength=len(dataset.class_names))
    engine = backend.Engine(runtime, dataset.image_shape, draws_per_class(counts, config.data.balance))
    waits: list[float | None] = []

    def loader() -> float:
        try:
            fetch = fetcher(training_stream(train, runtime.batch_sharding, config.data, config.seed, 0))
            return _rate(lambda steps: fetch(steps * runtime.local), bench.seconds)
        except tf.errors.OpError as error:
            if sentence := train.explain():
                raise exits.BadData(sentence) from error
            raise

    def step() -> float:
        engine.feed(train, 0, cached=CACHED)
        return _rate(lambda steps: _trained(engine, steps), bench.seconds)

    def together() -> float:
        engine.feed(train, 0)
        waited, since = 0.0, 0.0

        def loop(steps: int) -> None:
            nonlocal waited, since
            begun = time.perf_counter()
            seconds = _trained(engine, steps)
            waited, since = waited + (seconds or 0.0), since + time.perf_counter() - begun

        rate = _rate(loop, bench.seconds)
        waits.append(None if config.deterministic else waited / since)
        return rate

    speeds: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(bench.rounds):
        for part, measured in zip(PARTS, (loader, step, together), strict=True):
            speeds[part].append(measured() * config.batch_size)
    medians = {part: statistics.median(speeds[part]) for part in PARTS}
    shared = config.devices_spec.platform == "cpu"
    rates = (medians["loader"], medians["step"])
    bound = 1 / sum(1 / rate for rate in rates) if shared else min(rates)
    known = [wait for wait in waits if wait is not None]
    wait = statistics.median(known) if known else None
    return {
        **{name: getattr(config.data, name) for name in ("dataset", "augment", "balance")},
        **{name: getattr(config, name) for name in ("model", "batch_size", "precision", "backend", "devices")},
        **{
            part: {"images_per_second": medians[part], "least": min(speeds[part]), "most": max(speeds[part])}
            for part in PARTS
        },
        "input_wait_fraction": wait,
        "bound": {"images_per_second": bound, "reached": medians["together"] / bound},
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "verdict": advice.input_advice(wait, config.data),
    }


def fetcher(stream: Any) -> Callable[[int], None]:
    """`fetch(count)` takes so many elements inside a graph, where no Python stands between two of them."""
    import tensorflow as tf

    iterator = iter(stream)

    @tf.function(autograph=False)
    def loop(count: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies(tf.nest.flatten(iterator.get_next())):
                return index + 1

        return tf.while_loop(lambda index: index < count, body, [tf.constant(0)], parallel_iterations=1)

    return lambda count: loop(tf.constant(count))


def _trained(engine: Any, steps: int) -> float | None:
    """Seconds that so many steps waited for input."""
    result = engine.train(steps)
    if not result.finite:
        raise exits.Diverged(
            "the loss is no longer finite, so the speed would be that of no real run; lower --learning_rate."
        )
    return result.input_wait_seconds


def _rate(work: Callable[[int], object], seconds: float) -> float:
    """Steps a second of `work(steps)`, over at least `seconds`, once what is made at first has been used up."""
    from convoy.trainer.engines.pace import StepsPerLoop

    pace, made, spent = StepsPerLoop(), 0, 0.0
    work(CACHED)
    pace.record(CACHED, 0.0)
    while spent < seconds:
        steps = pace.steps(2**30)
        begun = time.perf_counter()
        work(steps)
        took = time.perf_counter() - begun
        pace.record(steps, took)
        made, spent = made + steps, spent + took
    return made / spent


def show(measured: dict[str, Any]) -> None:
    """The measurement as a table, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, soft_wrap=True)
    table = Table("", box=None, pad_edge=False)
    for name in ("images/s", "least", "most"):
        table.add_column(name, justify="right")
    for part, name in zip(PARTS, ("input alone", "step alone", "together"), strict=True):
        table.add_row(name, *(f"{measured[part][key]:,.0f}" for key in ("images_per_second", "least", "most")))
    console.print(table)
    reached, wait = measured["bound"]["reached"], measured["input_wait_fraction"]
    console.print(
        f"Together {reached:.0%} of what these two allow"
        + ("" if wait is None else f"; {wait:.0%} of the time is spent waiting for data")
        + f"; {measured['peak_rss_bytes'] / 2**20:,.0f} MiB at most.",
        markup=False,
    )
    if measured["verdict"]:
        console.print(printable(measured["verdict"]), markup=False)


def main(argv: list[str]) -> int:
    if options.wants_help(argv) or not argv:
        print(options.help_text(USAGE, BenchConfig, RunConfig, DataConfig))
        return exits.OK
    _parse(argv)
    return supervise.run(supervise.module("convoy.trainer.verbs.bench", argv))


def child(argv: list[str]) -> int:
    supervise.follow_parent()
    config, bench = _parse(argv)
    with contextlib.redirect_stdout(sys.stderr):  # notes about the data
        measured = measure(config, bench)
    if bench.json:
        print(json.dumps(measured))
    else:
        show(measured)
    return exits.OK


def _parse(argv: list[str]) -> tuple[RunConfig, BenchConfig]:
    if argv[0] != "input":
        raise exits.UsageError(f"`convoy bench {argv[0]}` is not there; there is `convoy bench input`.")
    values = options.parse(argv[1:], BenchConfig, RunConfig, DataConfig)
    return configuration.from_dict(values), BenchConfig(**options.take(BenchConfig, values))


if __name__ == "__main__":
    exits.call(lambda: child(sys.argv[1:]))
