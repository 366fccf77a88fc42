"""`convoy bench input`: its flags. trainer/bench.py measures.

`python -m convoy.trainer.verbs.bench FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from types import ModuleType

from convoy import options
from convoy.bounds import real, whole
from convoy.data.config import DataConfig
from convoy.data.sources import places
from convoy.options import option
from convoy.table import Entry, Table
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.flags import recipes
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.models import own_module
from convoy.trainer.models.pretrained.settle import settle
from convoy.verbs import ChildVerb, Command

USAGE = """usage: convoy bench input [--flag=value ...]

Measures, for the flags of a run: the input alone (read, decoded, augmented, batched, dealt), the step alone (on batches that
lie in memory), and both together, in turn. Nothing is written."""


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


def parse(argv: list[str]) -> tuple[RunConfig, BenchConfig]:
    values = options.parse(recipes.inlined(argv), BenchConfig, RunConfig, DataConfig)
    return settle(configuration.from_dict(values)), BenchConfig(**options.take(BenchConfig, values))


def work(parsed: tuple[RunConfig, BenchConfig], load: Callable[[], ModuleType]) -> None:
    """Measures and prints. `load` imports what has `measure` and `show`, and Keras with it."""
    config, flags = parsed
    places.check(config.data)
    own_module.check(config.model)
    with contextlib.redirect_stdout(sys.stderr):  # notes about the data
        engines.choose(config.backend, config.onednn)
        module = load()  # Keras has the right backend now
        measurement = module.measure(config, flags.rounds, flags.seconds)
    if flags.json:
        print(json.dumps(measurement))
    else:
        module.show(measurement)


def _load() -> ModuleType:
    from convoy.trainer import bench

    return bench


VERB = ChildVerb(
    USAGE,
    (BenchConfig,),
    parse,
    functools.partial(work, load=_load),
    of_train=(RecipeFlag, RunConfig, DataConfig),
    module="convoy.trainer.verbs.bench",
)
BENCH = Command(
    "convoy bench",
    """usage: convoy bench WHAT [--flag=value ...]

{verbs}

convoy bench WHAT --help lists its flags.""",
    Table(
        "measurement",
        {
            "input": Entry("convoy.trainer.verbs.bench:VERB", "input and step, alone and together"),
            "step": Entry(
                "convoy.trainer.verbs.step:VERB", "a step beside what the devices can do, and where its time goes"
            ),
            "hardware": Entry("convoy.trainer.verbs.hardware:VERB", "what --onednn=auto means here, measured and kept"),
            "scaling": Entry("convoy.trainer.verbs.scaling:VERB", "the throughput of 1, 2, 4, ... devices"),
        },
    ),
)

if __name__ == "__main__":
    VERB.child()
