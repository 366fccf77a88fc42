"""What this machine's processor is fast at. `convoy bench hardware` asks for it; each measurement is a process of its own.

`python -m convoy.trainer.hardware SECONDS` measures in this process, in whose environment TensorFlow's switch is, and prints
JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from convoy import entry, exits
from convoy.trainer.engines import onednn

SIDE, MEGABYTES, DTYPES = 1024, 256, ("float32", "bfloat16", "float16")
# A small network with all that large ones have, as a residual network for small images has it.
MODEL, BATCH, DATA = "resnet18", 8, "synthetic:16x16x3:10:64"
SWITCHES = {"on": "1", "off": "0"}


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """What `--json` prints: steps a second with oneDNN and without, in turn, and which is faster.

    Args:
      rounds: how often each is measured, in turn.
      seconds: of each measurement.
    """
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in SWITCHES}
    for _ in range(rounds):
        for name in SWITCHES:
            measured[name].append(_child(SWITCHES[name], seconds))
    steps = {name: [child["steps_per_second"] for child in children] for name, children in measured.items()}
    medians = {name: statistics.median(values) for name, values in steps.items()}
    last = measured[max(medians, key=medians.__getitem__)][-1]
    return {
        "processor": onednn.processor(),
        "tensorflow": version("tensorflow"),
        "steps_per_second": {
            name: {"median": medians[name], "least": min(steps[name]), "most": max(steps[name])} for name in SWITCHES
        },
        "onednn": max(medians, key=medians.__getitem__),
        "peak_flops_per_second": last["peak_flops_per_second"],
        "bytes_per_second": last["bytes_per_second"],
    }


def _child(switch: str, seconds: float) -> dict[str, Any]:
    environment = {**os.environ, onednn.SWITCH: switch}
    argv = [sys.executable, "-m", "convoy.trainer.hardware", str(seconds)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise exits.CannotRun(
            f"a training step with {onednn.SWITCH}={switch} ended with code {done.returncode}:"
            f" {(done.stderr.splitlines() or ['no word'])[-1][:200]}; set --onednn yourself."
        )
    return json.loads(done.stdout.splitlines()[-1])


def _in_this_process(seconds: float) -> dict[str, Any]:
    from convoy.data.config import DataConfig
    from convoy.trainer import engines
    from convoy.trainer.config import RunConfig

    package = engines.choose("tensorflow")
    from convoy.trainer import bench
    from convoy.trainer.engines.base import BaseEngine
    from convoy.trainer.experiment import build

    data = DataConfig(DATA, eval_split="none")
    experiment = build(RunConfig(data=data, model=MODEL, batch_size=BATCH, devices="cpu:1"), single_process=True)
    engine = experiment.engine
    assert isinstance(engine, BaseEngine)
    engine.feed(experiment.data.train, 0, cached=bench.CACHED)
    speed = bench.rate(lambda steps: bench.train(engine, steps), seconds)
    peaks = {
        dtype: bench.rate(package.products(engine.runtime, SIDE, dtype), seconds / 4) * 2 * SIDE**3 for dtype in DTYPES
    }
    copies = bench.rate(package.copies(MEGABYTES), seconds / 4)
    return {
        "steps_per_second": speed,
        "peak_flops_per_second": peaks,
        "bytes_per_second": copies * 2 * MEGABYTES * 1e6,  # read and written
    }


def _main() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        figures = _in_this_process(float(sys.argv[1]))
    print(json.dumps(figures))


if __name__ == "__main__":
    entry.call(_main)
