"""Accelerators by name: a name as people write it -> chips, machines, topology, price.

    cpu           no accelerator
    l4x4          four L4 in each worker (l4: one)
    v5e-16        a slice of TPU v5e with 16 chips, on four machines; Google's v5litepod-16
    v5p-8         a slice of TPU v5p with 8 TensorCores: four chips
    v5e-8@4t      on machines whose type ends with 4t: two of four chips, where v5e-8 is one of eight
    v5p --topology=4x4x8

Google's names of v3, v4, v5p and v7x count TensorCores, two a chip; those of v5e and v6e count chips.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from convoy import exits
from convoy.chips import CHIPS, LIST_PRICE, SPOT_PRICE, TPU_SPOT_PRICE, Chip, Machine, size
from convoy.table import closest

_GPUS = re.compile(r"(?P<chip>.+?)(x(?P<count>[1-9]\d*))?")
_SLICE = re.compile(r"(?P<chip>.+?)(-(?P<count>[1-9]\d*))?")
_TOPOLOGY = re.compile(r"[1-9]\d*(x[1-9]\d*){1,2}")
_CHIPS = {name: chip for chip in CHIPS for name in (chip.name, *chip.aliases)}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The accelerators of a job's workers; None and "" mean unknown, or none."""

    name: str  # canonical: Google's accelerator type of a TPU slice, l4x4 of GPUs
    kind: str  # "cpu" | "gpu" | "tpu"
    chip: Chip | None = None
    chips: int = 0  # of all machines of a TPU slice; of each worker, GPUs
    hosts: int = 1  # machines of a TPU slice
    chips_per_host: int = 0
    topology: str = ""
    machine_type: str = ""
    vcpus: int | None = None
    memory_gib: int | None = None
    price_per_hour: float | None = None  # dollars, list, of one machine with its chips
    spot_price_per_hour: float | None = None
    gke_label: str = ""  # of cloud.google.com/gke-accelerator or gke-tpu-accelerator

    def price(self, spot: bool) -> float | None:
        """Dollars an hour of one machine."""
        return self.spot_price_per_hour if spot else self.price_per_hour

    def price_source(self, spot: bool) -> str:
        """Date, region and source of that price."""
        if not spot:
            return LIST_PRICE
        return TPU_SPOT_PRICE if self.kind == "tpu" else SPOT_PRICE


CPU = Accelerator("cpu", "cpu")


def resolve(text: str, topology: str = "") -> Accelerator:
    """A name, and --topology of a TPU slice, -> the accelerator.

    A topology that fits one machine is one machine, unless @ names a type that needs several.

    Raises:
      exits.CannotRun: no such accelerator; a topology that does not fit; a machine type that cannot carry it.
    """
    wanted, _, machine_type = text.lower().partition("@")
    if wanted == "cpu":
        if topology or machine_type:
            raise exits.CannotRun(f"--accelerator={text} has neither a topology nor a machine type; leave them out.")
        return CPU
    for pattern in (_SLICE, _GPUS):
        match = pattern.fullmatch(wanted)
        chip = _CHIPS.get(match["chip"]) if match else None
        if match and chip and (chip.kind == "tpu") == (pattern is _SLICE):
            count = int(match["count"]) if match["count"] else None
            if chip.kind == "tpu":
                return _slice(chip, _topology(chip, count, topology.lower(), text), machine_type, text)
            if topology:
                raise exits.CannotRun(f"--topology={topology}: only TPU slices have one; leave it out with {text}.")
            return _gpus(chip, count or 1, machine_type, text)
    known = [accelerator.name for accelerator in all_of()]
    known += [short(accelerator) for accelerator in all_of() if short(accelerator) not in known]
    close = closest(wanted, known, count=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "cpu, l4x4, h100x8 and v5e-16 are some;"
    raise exits.CannotRun(
        f"--accelerator={text} is not known; {hint} `convoy launch accelerators` lists those there are."
    )


def all_of() -> Iterator[Accelerator]:
    """Every accelerator on every machine type that carries it; of TPUs, every topology."""
    for chip in CHIPS:
        for machine in chip.machines:
            if chip.kind == "gpu":
                yield _of_gpus(chip, machine)
            else:
                yield from (_of_slice(chip, machine, shape) for shape in chip.topologies if _carries(machine, shape))


def short(accelerator: Accelerator) -> str:
    """The short name: v5e-16 for v5litepod-16."""
    if accelerator.kind != "tpu" or accelerator.chip is None:
        return accelerator.name
    return f"{accelerator.chip.name}-{accelerator.chips * accelerator.chip.cores}"


def _topology(chip: Chip, count: int | None, topology: str, text: str) -> str:
    """The topology that a name and --topology mean; `count` is the number in the name."""
    unit = "chips" if chip.cores == 1 else f"TensorCores, {chip.cores} a chip"
    if topology and not _TOPOLOGY.fullmatch(topology):
        raise exits.CannotRun(f"--topology={topology} is not possible: give sides, 2x4 or 2x2x4 for example.")
    if topology and topology not in chip.topologies:
        close = closest(topology, chip.topologies, count=3, cutoff=0.5) or chip.topologies[:3]
        raise exits.CannotRun(
            f"--topology={topology}: {chip.name} has none of that shape; {', '.join(close)} are some."
        )
    if topology:
        if count not in (None, size(topology) * chip.cores):
            raise exits.CannotRun(
                f"--accelerator={text} and --topology={topology} do not agree: the name counts {unit}, so that topology is"
                f" {chip.name}-{size(topology) * chip.cores}."
            )
        return topology
    if count is None:
        raise exits.CannotRun(
            f"--accelerator={text}: how many? Give {chip.name}-N, which counts {unit}, or --topology."
        )
    for shape in chip.topologies:
        if size(shape) * chip.cores == count:
            return shape
    counts = sorted({size(shape) * chip.cores for shape in chip.topologies}, key=lambda known: abs(known - count))
    near_counts = " and ".join(f"{chip.name}-{nearest}" for nearest in sorted(counts[:2]))
    raise exits.CannotRun(
        f"--accelerator={text}: no slice has {count} ({chip.name}-N counts {unit}); the nearest are {near_counts}."
    )


def _slice(chip: Chip, topology: str, machine_type: str, text: str) -> Accelerator:
    suitable = [machine for machine in chip.machines if _carries(machine, topology)]
    # A machine that holds the whole slice comes first.
    suitable.sort(key=lambda machine: machine.topology != topology)
    return _of_slice(chip, _chosen(suitable, chip, machine_type, text), topology)


def _gpus(chip: Chip, count: int, machine_type: str, text: str) -> Accelerator:
    suitable = [machine for machine in chip.machines if machine.chips == count]
    if not suitable:
        counts = " or ".join(map(str, sorted({machine.chips for machine in chip.machines})))
        raise exits.CannotRun(
            f"--accelerator={text}: no machine has {count} {chip.name}; there are those with {counts}."
        )
    return _of_gpus(chip, _chosen(suitable, chip, machine_type, text))


def _chosen(suitable: list[Machine], chip: Chip, machine_type: str, text: str) -> Machine:
    if not machine_type:
        return suitable[0]
    for machine in suitable:
        if machine.type and (machine.type == machine_type or machine.type.endswith(f"-{machine_type}")):
            return machine
    types = ", ".join(machine.type for machine in suitable if machine.type) or "no type that is known"
    raise exits.CannotRun(f"--accelerator={text}: no such machine carries it; of {chip.name} {types} would.")


def _carries(machine: Machine, topology: str) -> bool:
    return machine.topology == topology or (machine.joins and size(topology) > machine.chips)


def _of_gpus(chip: Chip, machine: Machine) -> Accelerator:
    return _on(chip, machine, name=f"{chip.name}x{machine.chips}", kind="gpu", chips=machine.chips)


def _of_slice(chip: Chip, machine: Machine, topology: str) -> Accelerator:
    chips = size(topology)
    name = f"{chip.google_name}-{chips * chip.cores}"
    return _on(chip, machine, name=name, kind="tpu", chips=chips, hosts=chips // machine.chips, topology=topology)


def _on(chip: Chip, machine: Machine, **values: Any) -> Accelerator:
    """An accelerator on a machine, with the fields that the machine does not decide."""
    return Accelerator(
        chip=chip,
        chips_per_host=machine.chips,
        machine_type=machine.type,
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        price_per_hour=machine.price,
        spot_price_per_hour=machine.spot,
        gke_label=machine.gke_label or chip.gke_label,
        **values,
    )
