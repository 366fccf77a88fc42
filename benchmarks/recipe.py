"""A recipe as its header quotes it: `python benchmarks/recipe.py digits --seeds 5` writes results/digits.csv.

Each seed is a run of its own in a process of its own. `seconds` is from the beginning of training to the end of the
measurement on the test split, without starting Python and reading the data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rows import HERE, convoy, describe, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=5)
    flags, more = parser.parse_known_args()
    rows = []
    for seed in range(flags.seeds):
        with tempfile.TemporaryDirectory() as folder:
            measured = convoy(Path(folder), flags.recipe, [f"--seed={seed}", *more])
        print(f"{flags.recipe} seed {seed}: {measured}", flush=True)
        rows.append({**describe(), "seed": seed, **measured})
    write(HERE / "results" / f"{flags.recipe}.csv", rows)


if __name__ == "__main__":
    main()
