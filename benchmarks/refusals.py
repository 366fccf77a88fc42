"""How soon a command that cannot work is answered: `python benchmarks/refusals.py`.

A wrong path, another trainer's flag, an impossible value and a run that is finished already, in turn. Seconds of the clock for
the whole command, of which Python's own start is a part (`python -c pass`, for comparison). Writes results/refusals.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import HERE, describe, write

FINISHED = ["--dataset=digits", "--duration=1st", "--devices=cpu:1", "--run_dir=finished"]
CASES = {
    "python -c pass": (["-c", "pass"], 0),
    "wrong path": (["-m", "convoy", "train", "--dataset=folder:nowhere"], 78),
    "flag of another trainer": (["-m", "convoy", "train", "--lr=0.1"], 2),
    "impossible value": (["-m", "convoy", "train", "--batch_size=0"], 78),
    "finished run": (["-m", "convoy", "train", *FINISHED], 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    flags = parser.parse_args()
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(HERE.parent)}

        def run(argv: list[str]) -> int:
            return subprocess.run([sys.executable, "-P", *argv], cwd=folder, env=env, capture_output=True).returncode

        assert run(["-m", "convoy", "train", *FINISHED]) == 0
        before = sorted(Path(folder).rglob("*"))
        for _ in range(flags.rounds):
            for case, (argv, code) in CASES.items():
                begun = time.perf_counter()
                assert run(argv) == code, case
                seconds[case].append(time.perf_counter() - begun)
        assert sorted(Path(folder).rglob("*")) == before, "a refusal leaves nothing behind"
    rows = [
        {
            **describe(),
            "case": case,
            "rounds": flags.rounds,
            "seconds": round(statistics.median(taken), 3),
            "least": round(min(taken), 3),
            "most": round(max(taken), 3),
        }
        for case, taken in seconds.items()
    ]
    write(HERE / "results" / "refusals.csv", rows)
    for row in rows:
        print(row["case"], row["seconds"], f"({row['least']} to {row['most']})")


if __name__ == "__main__":
    main()
