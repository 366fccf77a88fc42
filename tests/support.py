"""What several tests use: Convoy as a process, images in folders, what a run directory holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parent.parent
DATA = Path(os.environ.get("CONVOY_TEST_DATA", REPOSITORY.parent / "shared"))

# A run that is over in a second or two, whose bits are the same every time.
QUICK = ["--dataset=digits", "--batch_size=64", "--duration=60st", "--checkpoint_every=20st", "--eval_every=20st",
         "--augment=article", "--seed=3", "--deterministic"]  # fmt: skip


class Outcome:
    """What a finished process left."""

    def __init__(self, done: subprocess.CompletedProcess[str]):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def command(*argv: object) -> list[str]:
    """`convoy ...` by this interpreter, wherever its script is."""
    return [sys.executable, "-P", "-m", "convoy", *map(str, argv)]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, **variables}


def write_images(root: Path, classes: tuple[str, ...], each: int, first: int = 0) -> None:
    from PIL import Image

    generator = np.random.default_rng(first)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = generator.integers(0, 120, (24, 20, 3), dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(root / name / f"{index:03d}.{'png' if index % 2 else 'jpg'}")


def final_tensors(run_dir: Path) -> dict[str, np.ndarray]:
    """Every tensor of the newest checkpoint, read with NumPy alone."""
    folder = max((run_dir / "checkpoints").iterdir())
    tensors = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as members:
            tensors |= {f"{file.stem}/{name}": members[name] for name in members.files}
    return tensors


def assert_same_bits(run_dir: Path, other: Path) -> None:
    """Model, optimizer and averages of two finished runs are equal bit for bit."""
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 5
    for name, value in ours.items():
        assert value.tobytes() == theirs[name].tobytes(), name


def result_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "result.json").read_text())


def records_of(run_dir: Path) -> list[dict]:
    """metrics.jsonl without what differs between any two runs."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "images_per_second")} for line in lines]


def events_of(run_dir: Path) -> list[dict]:
    # A line that is being written while we read has no end yet.
    lines = (run_dir / "events.jsonl").read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]
