"""`convoy bench step`: its flags. trainer/step_bench.py measures.

`python -m convoy.trainer.verbs.step FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import functools
from types import ModuleType

from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.verbs.bench import BenchConfig, parse, work
from convoy.verbs import ChildVerb

USAGE = """usage: convoy bench step [--flag=value ...]

Measures, for the flags of a run, the training step on batches that lie in memory, and a large matrix product in the same
precision on the same devices, in turn: images and FLOPs a second, the fraction of that peak, and where the time goes, by the
network's own layers. FLOPs are counted from the network, two for a multiplication with its addition. Nothing is written."""


def _load() -> ModuleType:
    from convoy.trainer import step_bench

    return step_bench


VERB = ChildVerb(
    USAGE,
    (BenchConfig,),
    parse,
    functools.partial(work, load=_load),
    of_train=(RecipeFlag, RunConfig, DataConfig),
    module="convoy.trainer.verbs.step",
)

if __name__ == "__main__":
    VERB.child()
