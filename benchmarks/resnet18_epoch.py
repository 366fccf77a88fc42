"""One epoch of recipes/resnet18_cifar10.flags by each engine: `python benchmarks/resnet18_epoch.py`.

Shows that both engines train ResNet-18 in bfloat16 at a batch of 512 on all 50,000 images of the real CIFAR-10, and how fast.
`seconds` is from the beginning of training, with compilation, to the end of the measurement on the test split. Images per
second are those of the steps alone. Writes results/resnet18_epoch.csv, in which it replaces the rows of the engines it ran.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rows import DATA, HERE, convoy, describe, replace

RESULTS = HERE / "results" / "resnet18_epoch.csv"
BACKENDS = ("tensorflow", "jax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, help="default: both, one after the other")
    parser.add_argument("--data_dir", type=Path, default=DATA)
    parser.add_argument("--notes", default="", help="what a reader of the row must know of the machine meanwhile")
    flags = parser.parse_args()
    for backend in [flags.backend] if flags.backend else BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            more = [
                "--duration=1ep",
                "--eval_split=none",
                f"--backend={backend}",
                f"--data_dir={flags.data_dir.absolute()}",
            ]
            measured = convoy(Path(folder), "resnet18_cifar10", more)
            result = json.loads((Path(folder) / "run" / "result.json").read_text())
        row = {
            **describe(),
            "backend": backend,
            "batch_size": 512,
            "precision": "mixed_bfloat16",
            "steps": result["step"],
            "seconds": measured["seconds"],
            "images_per_second": round(result["train"]["images_per_second"], 1),
            "notes": flags.notes,
        }
        print(row, flush=True)
        replace(RESULTS, row, "backend")


if __name__ == "__main__":
    main()
