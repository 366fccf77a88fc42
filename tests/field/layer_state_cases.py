"""Trains layers with state of their own, interrupted and uninterrupted, on one engine and some CPU devices, in one process.

    python layer_state_cases.py BACKEND DEVICES SEED COUNT FILE [LAYER ...]

Without names, of all layers. The seed draws for each case a layer, microbatches, loops, evaluations and an interruption.
FILE gets the outcomes as JSON: "same" for the bits of the uninterrupted run, "refused: SENTENCE", or the tensors that differ.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import itertools
import json
import random
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

BACKEND, DEVICES, SEED, COUNT, FILE = sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5])
ENGINES = choose(BACKEND)
RUNTIME = ENGINES.prepare(RunConfig(backend=BACKEND, devices=f"cpu:{DEVICES}", batch_size=24, deterministic=True))

import keras  # noqa: E402
from keras import layers  # noqa: E402

from convoy.data.sources.in_memory import InMemory  # noqa: E402
from convoy.trainer.engines.runtime import set_up_keras  # noqa: E402
from stateful_layers import APART, KINDS, REFUSED, SAME, Before  # noqa: E402

# Evaluations take several batches, and the collector skips older objects.
importlib.import_module("convoy.trainer.engines.base").evaluation_batch_size = lambda *values: 8
gc.freeze()
SHAPE, CLASSES = (4, 4, 1), 3
RNG = np.random.default_rng(0)
if BACKEND == "tensorflow":
    import tensorflow as tf

    ONE = tf.distribute.get_strategy()
else:
    import jax

    ONE = jax.sharding.Mesh(RUNTIME.strategy_or_mesh.devices[:1], RUNTIME.strategy_or_mesh.axis_names)
ONE_DEVICE = dataclasses.replace(RUNTIME.config, devices="cpu:1", strategy="one")
RUNTIMES = {
    1: dataclasses.replace(RUNTIME, config=ONE_DEVICE, local_replicas=1, strategy_or_mesh=ONE),
    DEVICES: RUNTIME,
}
EXAMPLES = InMemory(RNG.integers(0, 256, (53, *SHAPE)), RNG.integers(0, CLASSES, 53))


USERS = types.SimpleNamespace(__file__="users.py")
sys.modules["users"] = USERS  # type: ignore[assignment]
STEPS = 9


@dataclasses.dataclass
class Case:
    kind: str
    accumulate: int
    cuts: list[int]  # of the uninterrupted run
    others: list[int]  # of the interrupted run
    interrupted: int
    in_evaluation: bool  # whether the interruption falls into an evaluation
    ema: float
    devices: int
    compiled: str

    def engine(self, first_step: int) -> Any:
        values = {"accumulate": self.accumulate, "ema": self.ema, "xla": self.compiled, "seed": 2, "duration": "40st"}
        runtime = RUNTIMES[self.devices]
        config = dataclasses.replace(runtime.config, model="users:model", optimizer="sgd", **values)
        set_up_keras(config)
        built = ENGINES.Engine(dataclasses.replace(runtime, config=config), SHAPE, np.bincount(EXAMPLES.labels))
        built.feed(EXAMPLES, first_step * config.batch_size)
        return built


def draw(rng: random.Random, kind: str) -> Case:
    devices = rng.choice([1, DEVICES, DEVICES])
    return Case(
        kind,
        accumulate=rng.choice([1, 2, 3]),
        cuts=sorted(rng.sample(range(1, STEPS), rng.randint(0, 3))),
        others=sorted(rng.sample(range(1, STEPS), rng.randint(0, 3))),
        interrupted=rng.randint(1, STEPS - 1),
        in_evaluation=rng.random() < 0.5,
        ema=rng.choice([0.0, 0.9]),
        devices=devices,
        compiled="on" if BACKEND == "jax" or (devices == 1 and rng.random() < 0.3) else "off",
    )


def train(built: Any, first: int, last: int, cuts: list[int]) -> None:
    """Checks layers after the first loop and at the end, as the product's loop does."""
    check = getattr(built, "check_layers", lambda: None)
    borders = [first, *(cut for cut in cuts if first < cut < last), last]
    for begin, end in itertools.pairwise(borders):
        built.train(end - begin)
        if begin == first:
            check()
    check()


def both(case: Case) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The last states of an uninterrupted run, and of a run that continued from its checkpoint."""
    built = case.engine(0)
    train(built, 0, case.interrupted, case.cuts)
    saved = built.state()
    if case.in_evaluation:
        built.evaluate(EXAMPLES, lambda: False)
    train(built, case.interrupted, STEPS, case.cuts)
    uninterrupted, built = built.state(), case.engine(case.interrupted)
    built.restore(saved)
    if case.in_evaluation:
        # Leaves after the first batch, saves and continues.
        asked = iter([False])
        built.evaluate(EXAMPLES, lambda: next(asked, True))
        built.restore(built.state())
        built.evaluate(EXAMPLES, lambda: False)
    train(built, case.interrupted, STEPS, case.others)
    return uninterrupted, built.state()


def apart() -> float:
    """The relative difference between several devices and one for a layer that aggregates by mean."""
    USERS.model = lambda shape, classes: keras.Sequential(
        [keras.Input(shape), layers.Flatten(), Before("mean"), layers.Dense(classes, kernel_initializer="ones")]
    )
    ends = []
    for devices in (1, DEVICES):
        built = Case("before/mean", 1, [], [], 0, False, 0.9, devices, "on" if BACKEND == "jax" else "off").engine(0)
        built.train(STEPS)
        ends.append(built.state())
    return max(
        float(np.abs(value - ends[1][name]).max() / max(np.abs(value).max(), 1e-3)) for name, value in ends[0].items()
    )


def outcome(case: Case) -> str:
    make = KINDS[case.kind][0]
    USERS.model = lambda shape, classes: keras.Sequential(
        [keras.Input(shape), layers.Flatten(), make(), layers.Dense(classes)]
    )
    try:
        uninterrupted, resumed = both(case)
    except exits.CannotRun as error:
        return f"refused: {error}"
    except Exception as error:
        return f"failed: {traceback.format_exc(limit=-4)} {type(error)}"
    differing = sorted(name for name, value in uninterrupted.items() if value.tobytes() != resumed[name].tobytes())
    return f"differs: {', '.join(differing[:3])}" if differing else SAME


def main() -> None:
    rng = random.Random(f"{SEED} {BACKEND} {DEVICES}")
    kinds = sys.argv[6:] or rng.sample(sorted(KINDS), len(KINDS))
    outcomes = []
    for index in range(COUNT):
        case = draw(rng, kinds[index % len(kinds)])
        expected = KINDS[case.kind][1]
        if expected == APART:
            expected = SAME if case.devices == 1 else REFUSED
        begun = time.perf_counter()
        outcomes.append({"case": dataclasses.asdict(case), "expected": expected, "found": outcome(case)})
        print(f"{time.perf_counter() - begun:6.1f} s  {outcomes[-1]}", flush=True)
    FILE.write_text(json.dumps({"apart": apart(), "cases": outcomes}, indent=1))


if __name__ == "__main__":
    main()
