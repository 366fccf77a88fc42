"""`convoy bench hardware`: its flags, and what it prints. trainer/hardware.py measures."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from convoy import exits, options
from convoy.bounds import real, whole
from convoy.options import option
from convoy.trainer.engines import onednn
from convoy.verbs import verb

USAGE = """usage: convoy bench hardware [--flag=value ...]

Measures a small training step with oneDNN and without, in processes of their own, and keeps in your cache which is faster:
that is what --onednn=auto means on this processor with this TensorFlow from then on. A run that goes on keeps its own. The
speed of matrix products and of memory is printed, too."""


@dataclasses.dataclass(frozen=True)
class HardwareConfig:
    """How long to measure."""

    rounds: int = option(2, "how often each is measured, in turn.", group="Measurement", within=whole(1, 100))
    seconds: float = option(2.0, "of each measurement.", group="Measurement", within=real(0, 3600, above=True))
    keep: bool = option(True, "keep in your cache what is faster.", group="Measurement")
    json: bool = option(False, "print one JSON object and nothing else.", group="Measurement")

    def __post_init__(self) -> None:
        options.check(self)


@verb(USAGE, HardwareConfig)
def VERB(flags: HardwareConfig) -> None:  # noqa: N802
    """Measures, keeps and prints."""
    from convoy.trainer import hardware

    measurement = hardware.measure(flags.rounds, flags.seconds)
    kept = ""
    if flags.keep:
        try:
            kept = str(onednn.keep(measurement["onednn"]))
        except OSError as error:
            raise exits.CannotRun(
                f"what is faster here cannot be kept ({exits.reason(error)}); set XDG_CACHE_HOME to a folder that you may"
                " write to, or give --nokeep."
            ) from error
    print(json.dumps(measurement) if flags.json else _text(measurement, kept))


def _text(measurement: dict[str, Any], kept: str) -> str:
    lines = [f"{measurement['processor']}, TensorFlow {measurement['tensorflow']}"]
    for name, steps in measurement["steps_per_second"].items():
        lines.append(
            f"oneDNN {name:>3}: {steps['median']:,.2f} steps/s ({steps['least']:,.2f} to {steps['most']:,.2f})"
        )
    for dtype, flops in measurement["peak_flops_per_second"].items():
        lines.append(f"matrix product in {dtype}: {flops / 1e9:,.0f} GFLOP/s")
    lines.append(f"memory, read and written: {measurement['bytes_per_second'] / 1e9:,.1f} GB/s")
    lines.append(f"--onednn=auto is {measurement['onednn']} from now on ({kept})." if kept else "Nothing was kept.")
    return "\n".join(lines)
