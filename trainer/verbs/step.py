"""`convoy bench step`: its flags. trainer/step_bench.py measures.

`python -m convoy.trainer.verbs.step FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import contextlib
import json
import sys

from convoy.data.config import DataConfig
from convoy.data.sources import places
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.models import own_module
from convoy.trainer.verbs.bench import BenchConfig, parse
from convoy.verbs import ChildVerb

USAGE = """usage: convoy bench step [--flag=value ...]

Measures, for the flags of a run, the training step on batches that lie in memory, and a large matrix product in the same
precision on the same devices, in turn: images and FLOPs a second, the fraction of that peak, and where the time goes, by the
network's own layers. FLOPs are counted from the network, two for a multiplication with its addition. Nothing is written."""


def _work(parsed: tuple[RunConfig, BenchConfig]) -> None:
    config, flags = parsed
    places.check(config.data)
    own_module.check(config.model)
    with contextlib.redirect_stdout(sys.stderr):  # notes about the data
        engines.choose(config.backend, config.onednn)
        from convoy.trainer import step_bench  # imports Keras, which now has the right backend

        measurement = step_bench.measure(config, flags.rounds, flags.seconds)
    if flags.json:
        print(json.dumps(measurement))
    else:
        step_bench.show(measurement)


VERB = ChildVerb(
    USAGE,
    (BenchConfig,),
    parse,
    _work,
    of_train=(RecipeFlag, RunConfig, DataConfig),
    module="convoy.trainer.verbs.step",
)

if __name__ == "__main__":
    VERB.child()
