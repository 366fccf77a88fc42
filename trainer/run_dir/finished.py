"""Whether a run is finished: result.json, read again. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from convoy import shapes
from convoy.outside import parse_json
from convoy.shapes import AnyFloat
from convoy.store import Store
from convoy.trainer.run_dir.files import RESULT

# What is asked of it again; a measurement may be no finite number.
_SHAPE = {
    "step": int,
    "epoch": float,
    "examples": int,
    "wall_seconds": float,
    "train": {"images_per_second": (float, None)},
    "eval": {"split": str, "examples": int, "accuracy": AnyFloat, "loss": AnyFloat},
    "bad_images?": int,
}


def read_result(store: Store) -> dict[str, Any]:
    """FileNotFoundError where no run has finished; exits.BadData for a file that is no result."""
    place = f"{store.url}/{RESULT}"
    return shapes.check(parse_json(store.get(RESULT), place, finite=False), _SHAPE, place)


def finished_result(store: Store, total: int) -> dict[str, Any] | None:
    """The result of a run that has made all of its `total` steps; None if it has not."""
    try:
        result = read_result(store)
    except FileNotFoundError:
        return None
    return result if result["step"] >= total else None
