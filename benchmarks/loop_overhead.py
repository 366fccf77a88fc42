"""How much of the bare step's rate `convoy train`'s loop keeps, on one CPU device: `python benchmarks/loop_overhead.py`.

Rates are optimizer steps per second; the ratio of a pair is loop / bare. The goals are 98 % for resnet18 and 95 % for
article_cnn, on batches of 32x32 pixels.

- Loop: the loop of `convoy train`, with its loop length, signals, status, display, metrics.jsonl, events.jsonl and
  TensorBoard. Every stretch ends with a record, as an epoch does. The stream repeats a few batches from memory, so that no
  pipeline is measured; on JAX they go through the Feed. Checkpoints are left out, as they are from images_per_second.
- Bare: a loop written by hand. It calls the engine's own step (forward, backward, update) once for each batch, which lies
  on the device, and waits for the last loss. The step is one tf.function, or one jax.jit with its state as argument. The
  step returns the loss alone, so the compiler drops what only records and guards need: norm and count of right answers.

The sides take turns of some seconds: bare, loop, bare, loop; the first of each does not count. A pair shares one process
and so clock, memory and neighbours. Each backend and model has a process of its own, because Keras has one backend. There
glibc keeps freed memory. By default it returns the temporary memory of each bare step on JAX to the system. Then 13,000
page faults a step slowed that of article_cnn by a third. Writes results/loop_overhead.csv, in which it replaces its own
rows only. All four take about eight minutes on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import HERE, describe, replace

from convoy import entry, exits

BACKENDS = ("tensorflow", "jax")
MODELS = {"resnet18": (64, 0.98), "article_cnn": (128, 0.95)}  # name -> examples of a batch, goal
RESULTS = HERE / "results" / "loop_overhead.csv"
BATCHES = 8  # in memory, over and over
FEWEST = 4  # steps of a stretch
# glibc's own settings, read when a process starts: no memory from mmap, none given back.
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
NEVER = "1000000000st"  # ends and records come with the stretches

Rates = list[tuple[float, float]]  # steps per second of each pair: bare, loop


def bare_tensorflow(engine: Any) -> Callable[[int], None]:
    """A function that makes so many steps and waits for the last."""
    import tensorflow as tf

    own = engine._training_step()
    step = tf.function(lambda batch: own(batch).loss, autograph=False)
    batch = next(engine._stream)

    def steps(count: int) -> None:
        for _ in range(count):
            loss = step(batch)
        loss.numpy()

    return steps


def bare_jax(engine: Any) -> Callable[[int], None]:
    """A function that makes so many steps and waits for the last."""
    import jax
    from jax.sharding import NamedSharding

    from convoy.trainer.engines.jax.devices import REPLICATED, SHARDED

    own = engine.programs.step(engine._stage)

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        state, outcome = own(state, batch)
        return state, outcome.loss

    mesh = engine.programs.mesh
    specs = {"in_specs": (REPLICATED, SHARDED), "out_specs": REPLICATED, "check_vma": False}
    compiled = jax.jit(jax.shard_map(step, mesh=mesh, **specs), donate_argnums=0)
    chunk = engine._feed.next(1, engine._state).batches
    batch = jax.device_put(jax.tree.map(lambda batches: batches[0], chunk), NamedSharding(mesh, SHARDED))
    state = engine._place(engine._state)  # a copy: either side gives its own away at every step

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, loss = compiled(state, batch)
        jax.block_until_ready((state, loss))

    return steps


def measure(flags: argparse.Namespace) -> Rates:
    """Trains with a loop that makes bare stretches in between."""
    from convoy.trainer import engines

    engines.choose(flags.backend)  # before Keras is imported
    from convoy.data.config import DataConfig
    from convoy.store import open_store
    from convoy.trainer.config import RunConfig
    from convoy.trainer.experiment import Experiment, build
    from convoy.trainer.loop.loop import Loop
    from convoy.trainer.loop.progress import Progress
    from convoy.trainer.outputs.display import Display
    from convoy.trainer.outputs.status import Status
    from convoy.trainer.processes.signals import Signals
    from convoy.trainer.session import Session

    class Unsaved(Session):
        """Saves nothing; see above."""

        def save(self, experiment: Experiment, progress: Progress) -> float:
            return 0.0

    rates: Rates = []
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(f"synthetic:32x32x3:10:{BATCHES * flags.batch_size}", eval_split="none")
        config = RunConfig(
            run_dir=f"{folder}/run",
            data=data,
            model=flags.model,
            precision=flags.precision,
            batch_size=flags.batch_size,
            duration=NEVER,
            eval_every=NEVER,
            checkpoint_every=NEVER,
            devices="cpu:1",
            backend=flags.backend,
        )
        experiment, store, progress = build(config.with_defaults()), open_store(config.run_dir), Progress()
        engine = experiment.engine
        with Status(store) as status, Unsaved(experiment, store, 1, Signals(), Display(), (status,)) as session:
            status.begin(1, 0, 0.0, experiment.plan.total)
            engine.feed(experiment.data.train, 0, cached=BATCHES)
            bare = {"tensorflow": bare_tensorflow, "jax": bare_jax}[flags.backend](engine)
            bare(1)  # traces
            loop = Loop(experiment, session, progress)
            loop.plan = dataclasses.replace(loop.plan, total=1)
            loop.run()
            steps = max(FEWEST, round(flags.seconds * FEWEST / timed(lambda: bare(FEWEST))))
            for pair in range(1 + flags.pairs):
                without = steps / timed(lambda: bare(steps))
                # The same loop goes on, so that the length of its loops is what it has found.
                loop.plan = dataclasses.replace(loop.plan, total=progress.step + steps)
                within = steps / timed(loop.run)
                print(f"  {steps} steps: bare {without:.3f}/s, loop {within:.3f}/s: {within / without:.2%}", flush=True)
                if pair:  # in the first one the loop finds the length of its loops
                    rates.append((without, within))
    return rates


def timed(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def record(flags: argparse.Namespace, rates: Rates) -> None:
    """Prints and writes this backend's and model's row in place of an older one."""
    ratios = [loop / bare for bare, loop in rates]
    row = {
        **describe(),
        "backend": flags.backend,
        "model": flags.model,
        "batch_size": flags.batch_size,
        "precision": flags.precision,
        "pairs": flags.pairs,
        "bare_steps_per_second": round(statistics.median(bare for bare, _ in rates), 3),
        "loop_steps_per_second": round(statistics.median(loop for _, loop in rates), 3),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
        "ratio": round(statistics.median(ratios), 4),
    }
    goal = MODELS[flags.model][1]
    print(f"{flags.backend} {flags.model}: {row['ratio']:.2%} of the bare step, goal {goal:.0%}", flush=True)
    replace(flags.output, row, "backend", "model")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=BACKENDS, help="default: both")
    parser.add_argument("--model", choices=MODELS, help="default: both")
    parser.add_argument("--batch_size", type=int, help="default: 64 for resnet18, 128 for article_cnn")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of a stretch; at least four steps")
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    if flags.backend and flags.model and MEMORY.items() <= os.environ.items():
        flags.batch_size = flags.batch_size or MODELS[flags.model][0]
        record(flags, measure(flags))
        return exits.OK
    for backend in [flags.backend] if flags.backend else BACKENDS:
        for model in [flags.model] if flags.model else MODELS:
            command = [sys.executable, __file__, *sys.argv[1:], f"--backend={backend}", f"--model={model}"]
            if code := subprocess.run(command, env={**os.environ, **MEMORY}, check=False).returncode:
                return code
    return exits.OK


if __name__ == "__main__":
    entry.call(main)
