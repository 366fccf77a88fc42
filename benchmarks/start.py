"""From the command to the end of the first step, beside an older commit: `python benchmarks/start.py --before=COMMIT`. Minutes.

Digits, article_cnn, one CPU device, on either engine; each turn is a process of its own, the sides in turn. The first round
does not count: it brings files into memory and compiles bytecode. Seconds are of the clock, from the start of `convoy train` to
the first record of metrics.jsonl. CPU seconds are of the whole command, parent and child, with its save and its test.
Writes results/start.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import HERE, checkout, describe, write

FLAGS = ["--dataset=digits", "--batch_size=64", "--duration=1st", "--augment=article", "--devices=cpu:1"]


def turn(code: Path, backend: str) -> tuple[float, float]:
    """(seconds to the first step, CPU seconds of the command)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-P",
            "-m",
            "convoy",
            "train",
            *FLAGS,
            f"--backend={backend}",
            f"--run_dir={folder}/run",
        ]
        spent, began = _cpu_of_children(), time.time()
        subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": f"{code}"}, check=True, capture_output=True
        )
        first = json.loads(Path(folder, "run", "metrics.jsonl").read_text().splitlines()[0])
        return first["time"] - began, _cpu_of_children() - spent


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the commit of the other side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--notes", default="", help="what else ran meanwhile, for the rows")
    flags = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        checkout(flags.before, Path(folder))
        sides = {flags.before: Path(folder), "now": HERE.parent}
        for backend in ("tensorflow", "jax"):
            turns: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for number in range(1 + flags.rounds):
                for side, code in sides.items():
                    turns[side].append(turn(code, backend))
                    print(f"{backend}, round {number}, {side}: {turns[side][-1][0]:.2f} s", flush=True)
            for side, measured in turns.items():
                seconds, cpu = zip(*measured[1:], strict=True)
                rows.append(
                    {
                        **describe(),
                        "backend": backend,
                        "side": side,
                        "rounds": flags.rounds,
                        "seconds": round(statistics.median(seconds), 2),
                        "least": round(min(seconds), 2),
                        "most": round(max(seconds), 2),
                        "cpu_seconds": round(statistics.median(cpu), 2),
                        "notes": flags.notes,
                    }
                )
    write(HERE / "results" / "start.csv", rows)


if __name__ == "__main__":
    main()
