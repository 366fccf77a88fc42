"""Where the time of a run went, over all its attempts: what events.jsonl says, added up.

An attempt writes `start` (with the moment its process began), `training` and the step it goes on from, `spent` at every
boundary (seconds by kind since the one before), `saved`, `rollback` and the step it goes back to, and `left`, `diverged` or
`finished`. Steps that were made again later counted for nothing the first time.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from convoy.shapes import Shape

COUNTED = "steps"
# What a run times itself. `warm_up` is the first loop of an attempt where that still prepares what later ones use, as
# TensorFlow's does; `steps` are the others, less the time they waited for input.
KINDS = ("compile", "warm_up", COUNTED, "input_wait", "evaluation", "save_blocked", "rollback")
# What an event must have to be counted, besides its name, its attempt and its time.
SHAPES: dict[str, Shape] = {
    "start": {"began?": float},
    "training": {"step": int},
    "rollback": {"step": int},
    "saved": {"seconds": float},
    "spent": {"step": int, "seconds": {str: float}},
}


class Ledger:
    """Seconds by kind since they were last taken."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, kind: str, seconds: float) -> None:
        self._seconds[kind] += seconds

    @contextlib.contextmanager
    def counting(self, kind: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(kind, time.perf_counter() - begun)

    def take(self) -> dict[str, float]:
        seconds, self._seconds = self._seconds, defaultdict(float)
        return {kind: round(seconds[kind], 6) for kind in KINDS if seconds[kind]}


def summarize(events: Iterable[Any], now: float) -> dict[str, Any]:
    """result.json's goodput.

    Args:
      events: the lines of events.jsonl; other values are passed over.
      now: the end, seconds since 1970.

    Returns:
      fraction: the share of the wall time since the first start that went into steps that lasted. wall_seconds. seconds: all
        of it by kind: those of KINDS; start, up to the first step of each attempt; repeated, work that was done again later;
        lost, from the last event of a crashed attempt to the next start; down, between two attempts; other, the rest.
        saving_seconds: from the beginning of each save to its manifest; beside training, but for save_blocked.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    spent: list[tuple[int, dict[str, float]]] = []
    first = began = last = None
    crashed, saving = False, 0.0
    for event in events:
        if not isinstance(event, dict) or "event" not in event:
            continue
        name, moment = event["event"], float(event["time"])
        if name == "start":
            began = float(event.get("began", moment))
            if first is None:
                first = began
            elif last is not None:
                # An attempt that left by itself wrote that last; how long a crashed one went on is not known.
                seconds["lost" if crashed else "down"] += max(began - last, 0.0)
            crashed = True
        elif name in ("training", "rollback"):
            if name == "training" and began is not None:
                seconds["start"] += moment - began
            again = [kinds for step, kinds in spent if step > event["step"]]
            seconds["repeated"] += sum(sum(kinds.values()) for kinds in again)
            spent = [(step, kinds) for step, kinds in spent if step <= event["step"]]
        elif name == "saved":
            saving += float(event["seconds"])
        elif name == "spent":
            spent.append((int(event["step"]), event["seconds"]))
        elif name in ("left", "diverged", "finished"):
            crashed = False
        last = moment
    if first is None:
        return {"fraction": None, "wall_seconds": 0.0, "seconds": {}, "saving_seconds": 0.0}
    for _, kinds in spent:
        for kind, value in kinds.items():
            seconds[kind] += value
    wall = now - first
    seconds["other"] = max(wall - sum(seconds.values()), 0.0)
    return {
        "fraction": seconds[COUNTED] / wall if wall else None,
        "wall_seconds": wall,
        "seconds": {kind: round(value, 3) for kind, value in sorted(seconds.items())},
        "saving_seconds": round(saving, 3),
    }
