"""The final measurement before and after it kept its logits: `python benchmarks/evaluation.py`.

Each side measures article_cnn on 10,000 synthetic images of 32x32 and 100 classes that lie in memory, in a process of its own.
The sides take turns within a round, and each is first in every second one. The code of `before` is the parent of the commit
that kept the logits. The page of such a run is written as well. Writes results/evaluation.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

from rows import HERE, checkout, describe, write

from convoy import entry, exits

EXAMPLES, CLASSES, BATCH = 10_000, 100, 128
WORKER = """
import inspect, sys, time
from convoy.trainer import engines
from convoy.trainer.config import from_argv

config = from_argv([f"--backend={sys.argv[1]}", f"--dataset=synthetic:32x32x3:{sys.argv[3]}:{sys.argv[2]}", "--eval_split=none",
                    "--model=article_cnn", f"--batch_size={sys.argv[4]}", "--devices=cpu:1", "--hang_timeout=0"])
engines.choose(config.backend)
from convoy.trainer.experiment import build

experiment = build(config)
examples, engine = experiment.data.final[1], experiment.engine

def measure():
    if len(inspect.signature(engine.evaluate).parameters) == 2:
        return engine.evaluate(examples, lambda: False)
    from convoy.trainer.logits import Collector
    collector = Collector(examples.labels)
    sums = engine.evaluate(examples, lambda: False, collector)
    collector.logits().to_bytes()
    return sums

measure()
print("ready", flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    measure()
    print(time.perf_counter() - begun, flush=True)
"""
PAGE = """
import sys, tempfile, time
import numpy as np
sys.path.append(sys.argv[1])
from pathlib import Path
from run_pages import drawn, run_directory
from convoy.store import open_store
from convoy.trainer.logits import Collector
from convoy.trainer.run_dir import opening

generator = np.random.default_rng(0)
labels = generator.integers(0, 100, 10_000, dtype=np.int32)
rows = generator.standard_normal((10_000, 100)).astype(np.float32)
rows[np.arange(10_000), labels] += 3
collector = Collector(labels)
collector(np.arange(10_000), rows)
with tempfile.TemporaryDirectory() as folder:
    place = str(run_directory(Path(folder) / "run", [f"class {k}" for k in range(100)], collector.logits(), examples=10_000,
                              kept=drawn(128, 3), trained=[*range(50, 150)]))
    begun = time.perf_counter()
    from convoy.trainer.report import page
    store = open_store(place)
    page.write(store, opening.trained_config(store, place).unchecked)
    print(time.perf_counter() - begun, (Path(place) / "report.html").stat().st_size)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="44b01e4~1", help="a commit")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "evaluation.csv")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkout(flags.before, Path(folder))
        rows = [row(backend, flags.rounds, Path(folder)) for backend in ("tensorflow", "jax")]
    seconds, size = page()
    write(flags.output, [{**each, "page_seconds": seconds, "page_bytes": size} for each in rows])
    return exits.OK


def row(backend: str, rounds: int, before: Path) -> dict[str, object]:
    """Medians of both sides, and of the quotients of the rounds."""
    sides = {"before": before, "after": HERE.parent}
    measured: dict[str, list[float]] = {side: [] for side in sides}
    processes = {}
    for side, code in sides.items():
        argv = [sys.executable, "-c", WORKER, backend, *map(str, (EXAMPLES, CLASSES, BATCH))]
        environment = {**os.environ, "PYTHONPATH": str(code), "TF_CPP_MIN_LOG_LEVEL": "2"}
        processes[side] = subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, text=True, env=environment, cwd=code)
    try:
        for process in processes.values():
            if not any(line.strip() == "ready" for line in process.stdout):
                raise RuntimeError("a process ended before it was ready; what it said is above")
        for number in range(rounds):
            for side in sorted(sides, reverse=bool(number % 2)):
                processes[side].stdin.write("\n")
                processes[side].stdin.flush()
                measured[side].append(float(processes[side].stdout.readline()))
            print(backend, number, {side: round(times[-1], 3) for side, times in measured.items()}, flush=True)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    ratios = [after / earlier for earlier, after in zip(measured["before"], measured["after"], strict=True)]
    return {
        **describe(),
        "backend": backend,
        "examples": EXAMPLES,
        "classes": CLASSES,
        "rounds": rounds,
        **{f"seconds_{side}": round(statistics.median(times), 3) for side, times in measured.items()},
        "ratio": round(statistics.median(ratios), 4),
        "ratio_least": round(min(ratios), 4),
        "ratio_most": round(max(ratios), 4),
    }


def page() -> tuple[float, int]:
    """Seconds and bytes of a page of 10,000 examples and 100 classes with all its pictures, in a new process."""
    argv = [sys.executable, "-c", PAGE, str(HERE.parent / "tests")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=HERE.parent)
    seconds, size = done.stdout.split()
    return round(float(seconds), 2), int(size)


if __name__ == "__main__":
    entry.call(main)
