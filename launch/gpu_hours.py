"""What a job costs where GPU hours are what is counted, and node hours of jobs without GPUs."""

from __future__ import annotations

from convoy.counting import counted


def per_hour(workers: int, gpus: int) -> float:
    """GPU hours an hour of all workers; node hours where a worker has no GPUs."""
    return float(workers * (gpus or 1))


def text(gpus: int, amount: float) -> str:
    """An amount of what `per_hour` counts."""
    kind = "GPU hour" if gpus else "node hour"
    return counted(round(amount, 2), kind) if amount >= 0.01 else f"less than 0.01 {kind}s"


def estimate(workers: int, gpus: int) -> str:
    """What an hour and a day of a job cost."""
    what = counted(workers * gpus, "GPU") if gpus else f"{counted(workers, 'node')} without GPUs"
    total = per_hour(workers, gpus)
    return f"{what}: {text(gpus, total)} an hour, {text(gpus, 24 * total)} a day"


def job_cost(workers: int, gpus: int, hours: float, max_restarts: int) -> str:
    """What a job costs before it is submitted; its speed is not known."""
    longest = text(gpus, per_hour(workers, gpus) * hours)
    starts = counted(max_restarts + 1, "start")
    return f"{estimate(workers, gpus)}\nat most {longest} a start, which --hours={hours:g} bounds; at most {starts}"
