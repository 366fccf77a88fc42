"""How throughput grows with devices. `convoy bench scaling` says how that is asked for.

Each number of devices is measured by `convoy bench input`, which is a process of its own: an engine has one set of devices for
the life of a process. This one imports neither TensorFlow, Keras nor JAX.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from convoy import calling, exits
from convoy.counting import counted
from convoy.trainer.flags.choices import SCALINGS
from convoy.trainer.flags.device_counts import DeviceCounts
from convoy.trainer.outputs.scaling import ScalingRow


@dataclasses.dataclass(frozen=True)
class Point:
    """What is measured once: a number of devices and a global batch."""

    count: int
    batch_size: int


def points(scaling: str, counts: Sequence[int], batch_size: int) -> list[Point]:
    """One point for each number of devices; `batch_size` is that of the first."""
    return [Point(count, batch_size * count // counts[0] if scaling == "weak" else batch_size) for count in counts]


def kinds(scaling: str) -> list[str]:
    """weak, strong or both."""
    return [name for name in SCALINGS if name != "both" and scaling in (name, "both")]


def check(scaling: str, counts: Sequence[int], batch_size: int) -> None:
    """Raises CannotRun for a batch that one of the numbers of devices cannot share evenly."""
    for count in counts if "strong" in kinds(scaling) else counts[:1]:
        if batch_size % count:
            weak = ", or --scaling=weak" if batch_size % counts[0] == 0 else ""
            raise exits.CannotRun(
                f"--batch_size={batch_size} cannot be shared evenly by {counted(count, 'device')}; give a multiple of"
                f" {count}{weak}."
            )


def measure(flags: Sequence[str], scaling: str, devices: DeviceCounts, batch_size: int) -> list[ScalingRow]:
    """A row for each number of devices, of each kind of scaling. Each measurement is told on stderr.

    Args:
      flags: of `convoy bench input`, without --devices and --batch_size.
      scaling: a name of SCALINGS.
      devices: how many.
      batch_size: global, of the fewest devices.

    Raises:
      exits.ConvoyError: what a measurement ended with, for example since there are not so many devices.
    """
    check(scaling, devices.counts, batch_size)
    wanted = [(kind, point) for kind in kinds(scaling) for point in points(kind, devices.counts, batch_size)]
    base, platform = wanted[0][1], devices.platform
    # The most devices come first: where there are not so many, nothing was measured in vain.
    order = sorted({point for _, point in wanted} - {base}, key=lambda point: (-point.count, point.batch_size))
    measured: dict[Point, dict[str, Any]] = {}
    for point in [*order, base] if platform else [base, *order]:
        # What one device is, the engine says, where no platform is given.
        where = [f"--devices={platform}:{point.count}"] if platform else ["--devices=auto", "--strategy=one"]
        measured[point] = _bench([*flags, *where, f"--batch_size={point.batch_size}"])
        platform = measured[point]["devices"].partition(":")[0]
        speed = measured[point]["together"]["images_per_second"]
        print(f"{platform}:{point.count}, a batch of {point.batch_size:,}: {speed:,.0f} images/s", file=sys.stderr)
    return [_row(kind, point, measured[point], base, measured[base]) for kind, point in wanted]


def _bench(flags: Sequence[str]) -> dict[str, Any]:
    lines: list[str] = []
    calling.call(["bench", "input", *flags, "--json"], lines.append)
    return json.loads(lines[-1])


def _row(kind: str, point: Point, measured: dict[str, Any], base: Point, reference: dict[str, Any]) -> ScalingRow:
    def efficiency(part: str) -> float:
        ideal = reference[part]["images_per_second"] * point.count / base.count
        return measured[part]["images_per_second"] / ideal

    speed = measured["together"]
    return ScalingRow(
        scaling=kind,
        devices=measured["devices"],
        batch_size=point.batch_size,
        images_per_second=speed["images_per_second"],
        low=speed["least"],
        high=speed["most"],
        efficiency=efficiency("together"),
        step_images_per_second=measured["step"]["images_per_second"],
        step_efficiency=efficiency("step"),
        input_wait_fraction=measured["input_wait_fraction"],
    )
