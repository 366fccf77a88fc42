"""`convoy bench scaling`: its flags. trainer/scaling.py measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from convoy import destination, exits, options
from convoy.data.config import DataConfig
from convoy.data.sources import places
from convoy.options import option
from convoy.trainer import config as configuration
from convoy.trainer import scaling
from convoy.trainer.config import RunConfig
from convoy.trainer.flags import recipes
from convoy.trainer.flags.choices import SCALINGS
from convoy.trainer.flags.device_counts import DeviceCounts
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.models import own_module
from convoy.trainer.outputs.scaling import as_csv, as_json, as_table, plot
from convoy.trainer.verbs.bench import BenchConfig
from convoy.verbs import Verb

USAGE = """usage: convoy bench scaling --devices=1,2,4,8 [--flag=value ...]

Measures the throughput of a run's flags on each of these numbers of devices, in processes of their own: the accelerators that
are there, else logical devices of the CPU. --devices=gpu:1,2,4,8 says which. Nothing is written but --plot."""


@dataclasses.dataclass(frozen=True)
class ScalingConfig(BenchConfig):
    """What grows with the devices, how long to measure, and how to show it."""

    scaling: str = option("both", lambda: f"{SCALINGS.help()}.", group="Measurement", choices=SCALINGS)
    csv: bool = option(False, "print CSV and nothing else.", group="Measurement")
    plot: str = option("", "draw the throughput over the devices into this PNG.", group="Measurement")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.json and self.csv:
            raise exits.CannotRun("--json and --csv are two forms of the same; leave one of them out.")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What `_parse` makes of argv."""

    run: RunConfig  # on one device, of whatever kind
    devices: DeviceCounts
    flags: ScalingConfig


def _parse(argv: list[str]) -> Parsed:
    values = options.parse(recipes.inlined(argv), ScalingConfig, RunConfig, DataConfig)
    devices = DeviceCounts.parse(values["devices"])
    run, flags = _run(values, devices), ScalingConfig(**options.take(ScalingConfig, values))
    scaling.check(flags.scaling, devices.counts, run.batch_size)
    destination.check("plot", flags.plot)
    return Parsed(run, devices, flags)


def _run(values: Mapping[str, Any], devices: DeviceCounts) -> RunConfig:
    """The run, after a run on the most devices has been found possible."""
    if devices.platform:
        configuration.from_dict({**values, "devices": f"{devices.platform}:{devices.counts[-1]}"})
    return configuration.from_dict({**values, "devices": "auto"})


def _work(parsed: Parsed) -> None:
    places.check(parsed.run.data)
    own_module.check(parsed.run.model)
    flags, default = parsed.flags, RunConfig().to_dict()
    varied = ("devices", "batch_size")
    values = [
        (name, value) for name, value in parsed.run.to_dict().items() if value != default[name] and name not in varied
    ]
    of_bench = [f"--rounds={flags.rounds}", f"--seconds={flags.seconds}", *options.to_flags(values)]
    rows = scaling.measure(of_bench, flags.scaling, parsed.devices, parsed.run.batch_size)
    if flags.plot:
        destination.write(
            "plot", flags.plot, plot(rows, f"{parsed.run.with_defaults().model} on {parsed.run.data.dataset}")
        )
    print((as_json if flags.json else as_csv if flags.csv else as_table)(rows))


VERB = Verb(USAGE, (ScalingConfig,), _parse, _work, of_train=(RecipeFlag, RunConfig, DataConfig))
