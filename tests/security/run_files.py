"""The files of a run directory, and hostile files in their places."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from mutations import document, torn

KINDS = ("fifo", "loop", "folder", "device", "link outside")
RESULT = {
    "schema": 1, "status": "finished", "step": 60, "epoch": 2.5, "examples": 3840, "wall_seconds": 3.5,
    "train": {"images_per_second": 1000.0, "input_wait_fraction": None, "step_milliseconds": 3.5},
    "eval": {"split": "test", "examples": 376, "accuracy": 0.99, "loss": 0.03, "per_class": {"0": {"recall": None}}},
    "best": None, "bad_images": 0, "seed": 3,
}  # fmt: skip
RECORDS = [
    {"step": 20, "epoch": 0.9, "examples": 1280, "time": 1.5e9, "split": "train", "loss": 2.0, "accuracy": 0.5},
    {"step": 20, "epoch": 0.9, "examples": 1280, "time": 1.5e9, "split": "eval", "loss": None, "accuracy": 0.75},
]
EVENTS = [
    {"event": "start", "attempt": 1, "time": 103.0, "began": 100.0, "devices": "cpu:1"},
    {"event": "training", "attempt": 1, "time": 104.0, "step": 0},
    {"event": "spent", "attempt": 1, "time": 110.0, "step": 20, "seconds": {"compile": 2.0, "steps": 3.0}},
    {"event": "saved", "attempt": 1, "time": 110.5, "step": 20, "seconds": 0.5},
    {"event": "rollback", "attempt": 1, "time": 111.0, "step": 0},
    {"event": "left", "attempt": 1, "time": 112.0, "step": 20},
]
BAD_IMAGES = [{"split": "train", "path": "cat/1.png", "reason": "cannot be decoded"}]


def written(right: Any) -> bytes:
    """The right content of a file."""
    return (
        b"".join(json.dumps(line).encode() + b"\n" for line in right)
        if isinstance(right, list)
        else json.dumps(right).encode()
    )


def mutated(right: Any, chance: random.Random) -> bytes:
    """A file with one error, in one line of a journal or anywhere."""
    if not isinstance(right, list):
        return document(right, chance)
    if chance.random() < 0.3:
        return torn(written(right), chance)
    lines = [json.dumps(line).encode() for line in right]
    at = chance.randrange(len(lines))
    lines[at : at + chance.randrange(2)] = [document(right[at], chance)]
    return b"\n".join(lines) + chance.choice([b"\n", b""])


def instead(path: Path, kind: str, outside: Path) -> None:
    """Puts a pipe, a folder or a link in the place of a file."""
    path.unlink(missing_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            path.symlink_to(outside)
