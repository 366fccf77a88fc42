"""Rows of `convoy bench scaling` as a table, CSV, JSON and a picture. Imports nothing heavy."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence

from convoy.counting import counted
from convoy.outside import printable
from convoy.trainer.outputs.tables import text_table

_HEADINGS = ("scaling", "devices", "batch", "images/s", "least", "most", "efficiency", "step alone", "waiting")


@dataclasses.dataclass(frozen=True)
class ScalingRow:
    """One number of devices.

    Attributes:
      scaling: weak or strong.
      devices: as --devices of a run says it, for example gpu:4.
      batch_size: global.
      images_per_second: of input and step together, the median of the rounds; `low` and `high` are their ends.
      efficiency: images per second and device, against those of the fewest devices: 1 is ideal.
      step_images_per_second: of the step on batches that lie in memory.
      step_efficiency: the same of those.
      input_wait_fraction: of the time, that steps wait for data; None with --deterministic.
    """

    scaling: str
    devices: str
    batch_size: int
    images_per_second: float
    low: float
    high: float
    efficiency: float
    step_images_per_second: float
    step_efficiency: float
    input_wait_fraction: float | None

    @property
    def platform(self) -> str:
        return self.devices.partition(":")[0]

    @property
    def count(self) -> int:
        return int(self.devices.partition(":")[2])


def as_csv(rows: Sequence[ScalingRow]) -> str:
    """A line of names, and a line for each row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(ScalingRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(dataclasses.asdict, rows))
    return text.getvalue().rstrip("\n")


def as_json(rows: Sequence[ScalingRow]) -> str:
    """One object: {"rows": [...]}."""
    return json.dumps({"rows": list(map(dataclasses.asdict, rows))})


def as_table(rows: Sequence[ScalingRow]) -> str:
    """For a person. Of a CPU's devices a last line says what they are."""
    lines = [
        (
            row.scaling,
            row.devices,
            *(f"{number:,.0f}" for number in (row.batch_size, row.images_per_second, row.low, row.high)),
            *(f"{fraction:.0%}" for fraction in (row.efficiency, row.step_efficiency)),
            "" if row.input_wait_fraction is None else f"{row.input_wait_fraction:.0%}",
        )
        for row in rows
    ]
    note = ""
    if rows[0].platform == "cpu":
        note = (
            f"Logical devices share {counted(os.cpu_count() or 1, 'core')}: more of them bring no more computing power."
        )
    return text_table(_HEADINGS, lines, note)


def plot(rows: Sequence[ScalingRow], title: str) -> bytes:
    """A PNG: images per second over devices, and the line on which each device brings as much as the first."""
    import matplotlib  # late: it takes half a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4.2), layout="constrained")
    counts, base = sorted({row.count for row in rows}), rows[0]
    ideal = [base.images_per_second * count / base.count for count in counts]
    axis.plot(counts, ideal, color="gray", linestyle=":", label="ideal")
    for scaling in dict.fromkeys(row.scaling for row in rows):
        own = [row for row in rows if row.scaling == scaling]
        below, above = zip(
            *((row.images_per_second - row.low, row.high - row.images_per_second) for row in own), strict=True
        )
        speeds = [row.images_per_second for row in own]
        axis.errorbar([row.count for row in own], speeds, [below, above], marker=".", capsize=3, label=scaling)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(counts, map(str, counts))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set(xlabel=f"devices ({base.platform})", ylabel="images per second")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.suptitle(printable(title), parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()
