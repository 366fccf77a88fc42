"""Whether a run is finished: result.json, read again. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from convoy import shapes
from convoy.outside import parse_json
from convoy.shapes import AnyFloat
from convoy.store import Store
from convoy.trainer.config import RunConfig
from convoy.trainer.loop import stopping
from convoy.trainer.run_dir.files import RESULT

# What is asked of it again; a measurement may be no finite number.
_SHAPE = {
    "step": int,
    "epoch": float,
    "examples": int,
    "wall_seconds": float,
    "attempts?": int,
    "train": {"images_per_second": (float, None), "noise_scale?": (float, None)},
    "eval": {
        "split": str,
        "examples": int,
        "accuracy": AnyFloat,
        "loss": AnyFloat,
        "top5_accuracy?": AnyFloat,
        "mean_recall?": (AnyFloat, None),
    },
    "versions?": {str: str},
    "eval_best?": ({"step": int, "split": str, "examples": int, "accuracy": AnyFloat, "loss": AnyFloat}, None),
    "best?": ({"step": int, "accuracy": float}, None),
    "bad_images?": int,
    "stopped_early?": (stopping.SHAPE, None),
}


def read_result(store: Store) -> dict[str, Any]:
    """FileNotFoundError where no run has finished; exits.BadData for a file that is no result."""
    place = f"{store.url}/{RESULT}"
    return shapes.check(parse_json(store.get(RESULT), place, finite=False), _SHAPE, place)


def finished_result(store: Store, config: RunConfig, total: int) -> dict[str, Any] | None:
    """The result of a run that has made all of its `total` steps, or stopped early with these flags; None of any other."""
    try:
        result = read_result(store)
    except FileNotFoundError:
        return None
    stopped = result.get("stopped_early")
    over = result["step"] >= total or (stopped and stopping.is_over(stopped, config, total))
    return result if over else None
