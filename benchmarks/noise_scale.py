"""What --noise_scale adds to a step: `python benchmarks/noise_scale.py`.

Two engines share a process, one with the flag and one without. They take turns on batches that lie in memory, and the first of
a pair is the second of the next, so that a clock that drifts favours neither. The cost of a pair is the quotient of their step
times less 1; a row has the median of all pairs and the quartiles. The goal is 2 %. `processor` is the same of the time that all
threads spend on processors, which other work on the machine disturbs less. Each backend, model and number of devices has a
process of its own, with glibc's memory as in loop_overhead.py. The two parts of a batch are microbatches on one device and the
devices' shares on two. Writes results/noise_scale.csv, where it replaces its own rows only.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from loop_overhead import MEMORY
from rows import HERE, describe, replace

BACKENDS = ("tensorflow", "jax")
MODELS = {"article_cnn": 128, "resnet18": 64}  # name -> examples of a batch of 32x32 pixels
DEVICES = (1, 2)
RESULTS = HERE / "results" / "noise_scale.csv"
BATCHES = 4  # in memory, over and over


def engines(flags: argparse.Namespace) -> tuple[Any, Any]:
    """Ready to train: without the flag, and with it."""
    from convoy.trainer.engines import choose

    choose(flags.backend)
    from convoy.data.config import DataConfig
    from convoy.trainer.config import RunConfig
    from convoy.trainer.engines.runtime import set_up_keras
    from convoy.trainer.experiment import build

    batch_size = MODELS[flags.model]
    config = RunConfig(
        data=DataConfig(f"synthetic:32x32x3:10:{BATCHES * batch_size}", eval_split="none"),
        model=flags.model,
        backend=flags.backend,
        devices=f"cpu:{flags.devices}",
        accumulate=2 // flags.devices,
        batch_size=batch_size,
        batchnorm="local",
    )
    experiment = build(config)
    without, data = experiment.engine, experiment.data
    # The devices are settled once in the life of a process.
    set_up_keras(without.config)
    runtime = dataclasses.replace(without.runtime, config=dataclasses.replace(without.config, noise_scale=True))
    within = type(without)(runtime, data.dataset.image_shape, data.draws_per_class)
    for engine in (without, within):
        engine.feed(data.train, 0, cached=BATCHES)
        engine.train(BATCHES)
    return without, within


def seconds_of(engine: Any, steps: int) -> np.ndarray:
    """(seconds, processor seconds) of a step."""
    begun = time.perf_counter(), time.process_time()
    engine.train(steps)
    return np.subtract((time.perf_counter(), time.process_time()), begun) / steps


def measure(flags: argparse.Namespace) -> dict[str, object]:
    """The row of one backend, model and number of devices."""
    without, within = engines(flags)
    steps = max(2, round(flags.seconds / seconds_of(without, BATCHES)[0]))
    costs, times = [], []
    for pair in range(flags.pairs):
        order = (without, within) if pair % 2 == 0 else (within, without)
        seconds = {engine: seconds_of(engine, steps) for engine in order}
        costs.append(seconds[within] / seconds[without] - 1)
        times.append(seconds[without][0])
    low, median, high = np.quantile(costs, (0.25, 0.5, 0.75), axis=0)
    return {
        **describe(),
        "backend": flags.backend,
        "model": flags.model,
        "devices": flags.devices,
        "batch_size": MODELS[flags.model],
        "parts": 2,
        "pairs": flags.pairs,
        "steps": steps,
        "step_milliseconds": round(1000 * float(np.median(times)), 2),
        **{name: round(float(values[0]), 4) for name, values in (("cost", median), ("low", low), ("high", high))},
        **{
            f"processor_{name}": round(float(values[1]), 4)
            for name, values in (("cost", median), ("low", low), ("high", high))
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=BACKENDS, help="default: both")
    parser.add_argument("--model", choices=MODELS, help="default: both")
    parser.add_argument("--devices", type=int, choices=DEVICES, help="default: both")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1, help="of a turn; at least two steps")
    flags = parser.parse_args()
    if flags.backend and flags.model and flags.devices and MEMORY.items() <= os.environ.items():
        row = measure(flags)
        print(row, flush=True)
        replace(RESULTS, row, "backend", "model", "devices")
        return 0
    for backend in [flags.backend] if flags.backend else BACKENDS:
        for model in [flags.model] if flags.model else MODELS:
            for devices in [flags.devices] if flags.devices else DEVICES:
                argv = [*sys.argv[1:], f"--backend={backend}", f"--model={model}", f"--devices={devices}"]
                command = [sys.executable, __file__, *argv]
                if code := subprocess.run(command, env={**os.environ, **MEMORY}, check=False).returncode:
                    return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
