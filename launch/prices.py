"""`convoy launch accelerators | cost`: accelerators, their machines and prices; what a job costs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from convoy import accelerators as table
from convoy import chips, exits, options
from convoy.accelerators import Accelerator
from convoy.bounds import real, whole
from convoy.counting import counted
from convoy.launch import gpu_hours
from convoy.launch.build import machines
from convoy.launch.command_line import parse, read_run, split
from convoy.launch.flags import JobOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.names import platform
from convoy.launch.targets.options import job_options
from convoy.options import option
from convoy.store import open_store
from convoy.trainer.flags.durations import Duration
from convoy.trainer.run_dir import files
from convoy.trainer.run_dir.finished import read_result
from convoy.verbs import Verb, verb

UNKNOWN = "unknown"

USAGE = """usage: convoy launch accelerators

What --accelerator can be, by machine type. Figures of a slice of several TPU machines are those of one."""

COST_USAGE = """usage: convoy launch cost [flags of a job] [--flag=value ...] [-- flags of `convoy train`]

What a job costs per hour and per day; and per epoch, once it is known how fast it is."""

_SPEED, _EPOCH = real(0, 1e15), whole(0, 10**15)  # in images
_HEAD = ("name", "machine type", "topology", "vCPU/GiB", "HBM GB", "TFLOP/s", "GB/s", "$/h", "spot")
_TEXTS = 3  # columns that begin with their text; figures end with it
_FOOT = """
HBM, TFLOP/s (peak: dense, bfloat16) and GB/s (links) are of one chip; vCPU, GiB and dollars an hour
of one machine, without disks and egress. Figures without a source are unknown.

Names of v3, v4, v5p and v7x count TensorCores, two a chip, those of v5e and v6e chips. From..to are
the slices that a machine type carries; --topology chooses a shape. Several types for the same name:
the first, or the one that is named, as in l4x1@g2-standard-16 and v5e-8@4t.

{sources}"""


@dataclasses.dataclass(frozen=True)
class CostOptions:
    """How fast a job is."""

    images_per_second: float = option(
        0.0, "what all workers train together, where it is known.", group="Speed", within=_SPEED
    )
    images_per_epoch: int = option(0, "images of an epoch, where it is known.", group="Speed", within=_EPOCH)
    run_dir: str = option("", "take both from result.json of this finished run, on the same machines.", group="Speed")

    def __post_init__(self) -> None:
        options.check(self)


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 0.01 else "less than $0.01"


@verb(USAGE)
def accelerators() -> None:
    """The verb."""
    print(listing())


def listing() -> str:
    """The table: GPUs by machine type; TPUs by machine type, with the smallest and the largest slice that it carries."""
    rows: dict[tuple[str, str], list[Accelerator]] = {}
    for accelerator in table.all_of():
        rows.setdefault((accelerator.gke_label, accelerator.machine_type), []).append(accelerator)
    lines = _aligned([_HEAD, *(_row(members) for members in rows.values())])
    every = [member for members in rows.values() for member in members]
    prices = dict.fromkeys(member.price_source(spot) for spot in (False, True) for member in every)
    sources = "\n".join([chips.TPU_FIGURES, *prices])
    return "\n".join(lines) + "\n" + _FOOT.format(sources=sources)


def _parse(argv: list[str]) -> tuple[JobOptions, CostOptions, Duration]:
    """The job, its speed, and --duration of its run."""
    own, train = split(argv)
    parsed = parse(own, job_options(), CostOptions)
    # A job that is only asked about needs no name.
    given = job_options()(**{**options.take(job_options(), parsed), "name": "any"})
    return given, CostOptions(**options.take(CostOptions, parsed)), read_run(train).duration_spec


def _cost(question: tuple[JobOptions, CostOptions, Duration]) -> None:
    given, speed, span = question
    accelerator, workers = machines(given)
    gpus = platform(given.target).gpus(given, accelerator)
    if gpus is not None and not given.price_per_hour:
        print(gpu_hours.estimate(workers, gpus))
        print(of_training(gpu_hours.per_hour(workers, gpus), speed, span, functools.partial(gpu_hours.text, gpus)))
        return
    total, source = per_hour(accelerator, workers, given.spot, given.price_per_hour)
    print(estimate(accelerator, workers, total, source))
    print(of_training(total, speed, span))


cost = Verb(COST_USAGE, (CostOptions, job_options), _parse, _cost)


def job_cost(spec: JobSpec) -> str:
    """What a job costs, for --dry_run; its speed is not known."""
    given = spec.options
    gpus = platform(given.target).gpus(given, spec.accelerator)
    if gpus is not None and not given.price_per_hour:
        return gpu_hours.job_cost(spec.workers, gpus, given.hours, given.max_restarts)
    total, source = per_hour(spec.accelerator, spec.workers, given.spot, given.price_per_hour)
    lines = [estimate(spec.accelerator, spec.workers, total, source)]
    if total is not None:
        lines.append(f"at most {_money(total * given.hours)} an attempt, which --hours={given.hours:g} bounds")
    return "\n".join([*lines, f"an epoch: {UNKNOWN}; `convoy launch cost` tells it, given the speed"])


def per_hour(accelerator: Accelerator, workers: int, spot: bool, given: float) -> tuple[float | None, str]:
    """(dollars an hour of all machines, where the price is from); `given` is --price_per_hour of one machine, or 0."""
    price = given or accelerator.price(spot)
    source = "--price_per_hour" if given else accelerator.price_source(spot)
    return (None if price is None else price * workers), source


def estimate(accelerator: Accelerator, workers: int, total: float | None, source: str) -> str:
    """Dollars an hour and a day of a job, or what to do if they are unknown; `total` is dollars an hour of all machines."""
    what = f"{workers} x {accelerator.machine_type or 'machine'} ({table.short(accelerator)})"
    if total is None:
        return f"{what}: {UNKNOWN} what an hour costs; give --price_per_hour of one machine, in dollars."
    return f"{what}: ${total:,.2f} an hour, ${24 * total:,.2f} a day\n{source}, without disks and egress"


def of_training(total: float | None, speed: CostOptions, span: Duration, spent: Callable[[float], str] = _money) -> str:
    """Time and cost of an epoch and of all epochs, or how to find out; `total` is what an hour costs, `spent` says a cost."""
    per_second, per_epoch = (
        measured(speed.run_dir) if speed.run_dir else (speed.images_per_second, speed.images_per_epoch)
    )
    if not per_second or not per_epoch:
        return (
            f"an epoch: {UNKNOWN}; give --images_per_second and --images_per_epoch, or --run_dir of a run that has finished"
            " on such machines."
        )

    def time_and_money(epochs: float) -> str:
        seconds = epochs * per_epoch / per_second
        return f"{_time(seconds)}, {UNKNOWN if total is None else spent(total * seconds / 3600)}"

    text = f"an epoch of {per_epoch:,} images at {per_second:,.0f} a second: {time_and_money(1)}"
    if span.unit == "ep":
        epochs = float(span.amount)
        text += f"\n{counted(epochs, 'epoch')}: {time_and_money(epochs)}"
    elif span.in_minutes:
        text += f"\n{counted(float(span.amount), 'minute')}: {time_and_money(60 * float(span.amount) * per_second / per_epoch)}"
    return f"{text}\nstart-up, evaluations, saving and restarts come on top"


def measured(run_dir: str) -> tuple[float, int]:
    """(images per second, images of an epoch) of a finished run; CannotRun if its result has no speed."""
    try:
        result = read_result(open_store(run_dir))
    except FileNotFoundError:
        raise exits.CannotRun(f"--run_dir={run_dir} has no {files.RESULT}; give a run that has finished.") from None
    per_second = result["train"]["images_per_second"]
    epochs = result["epoch"]
    examples = result["examples"]
    if not per_second or not epochs:
        raise exits.CannotRun(f"{run_dir}/{files.RESULT} tells no speed: the run was too short; give a longer one.")
    per_epoch = examples / epochs
    if not (_SPEED.holds(per_second) and _EPOCH.holds(per_epoch)):
        raise exits.BadData(
            f"{run_dir}/{files.RESULT} tells of {per_second:g} images a second and {per_epoch:g} an epoch, which no run has; it"
            " was damaged, or something else wrote it."
        )
    return per_second, round(per_epoch)


def _row(members: Sequence[Accelerator]) -> tuple[str, ...]:
    """Of one machine type."""
    first = members[0]
    # Of the largest size, the shape that Google takes.
    last = next(member for member in members if member.chips == members[-1].chips)
    chip = first.chip
    assert chip is not None
    name, topology = table.short(first), first.topology
    if last != first:
        name += f"..{table.short(last).removeprefix(chip.name)[1:]}"
        topology += f"..{last.topology}" if topology else ""
    peak = chip.peak_flops.get("bfloat16")
    known = None not in (first.vcpus, first.memory_gib)
    return (
        name,
        first.machine_type or UNKNOWN,
        topology,
        f"{first.vcpus}/{first.memory_gib}" if known else UNKNOWN,
        *(_figure(value, "g") for value in (chip.hbm_gb, peak and peak / 1e12, chip.link_gb_per_s)),
        *(_figure(value, ".2f") for value in (first.price_per_hour, first.spot_price_per_hour)),
    )


def _figure(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(
            text.ljust(width) if column < _TEXTS else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _time(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
