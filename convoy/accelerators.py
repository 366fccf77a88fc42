"""Accelerators by the names that people give them: l4x4, v5e-16, v5p-8, cpu.

Names of TPU slices count as Google's do: chips for v5e and v6e, TensorCores for v3, v4, v5p and v7x, of which a chip has two:
v5p-8 has four chips. A slice has several machines if its topology has more chips than one; each then is a worker of the job.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re

from convoy import exits
from convoy.chips import GPUS, TPUS, Chip, Machine

_GPU = re.compile(r"(?P<chip>[a-z0-9-]+?)x(?P<count>[1-9]\d*)")
_TPU = re.compile(r"(?P<chip>[a-z0-9]+)-(?P<count>[1-9]\d*)")
_TOPOLOGY = re.compile(r"(?P<sides>\d+x\d+(x\d+)?)(@(?P<chips>\d+)t)?")
_ALIASES = {"v5litepod": "v5e", "tpu7x": "v7x", "7x": "v7x", "trillium": "v6e", "ironwood": "v7x"}
_SMALL_CUBES = {1: "1x1x1", 4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4"}
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16", 512: "16x32",
         1024: "32x32", 2048: "32x64"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What a worker has, or a TPU slice that all workers share.

    Attributes:
      name: as Google writes it: v5litepod-16, l4x4, cpu.
      kind: cpu, gpu or tpu.
      chip: its kind; None for cpu.
      chips: of a worker, or of the whole slice.
      hosts: machines of a slice; 1 for the others, whose workers have a machine each.
      topology: of a slice, 4x4.
      machine: of each host; None where it is not known.
    """

    name: str
    kind: str
    chip: Chip | None = None
    chips: int = 0
    hosts: int = 1
    topology: str = ""
    machine: Machine | None = None

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts

    @property
    def machine_type(self) -> str:
        return self.machine.name if self.machine else ""

    @property
    def vcpus(self) -> int | None:
        return self.machine.vcpus if self.machine else None

    @property
    def memory_gib(self) -> int | None:
        return self.machine.memory_gib if self.machine else None

    @property
    def price_per_hour(self) -> float | None:
        """List price of one host in dollars."""
        return self.machine.price if self.machine else None

    @property
    def gke_label(self) -> str:
        """The value of GKE's label of nodes that have it."""
        return self.chip.label if self.chip else ""


def resolve(text: str, topology: str = "") -> Accelerator:
    """A name -> what it means.

    Args:
      text: cpu; CHIPxCOUNT of each worker, one if it is left out; TYPE-COUNT of a TPU slice.
      topology: of a slice, where its name leaves a choice; 2x4@4t takes machines of four chips where one of eight would do.

    Raises:
      exits.CannotRun: there is no such accelerator, or not in this topology.
    """
    name = text.lower()
    if name == "cpu":
        return _without_topology(Accelerator("cpu", "cpu"), topology)
    if (match := _TPU.fullmatch(name)) and (chip := _named(_ALIASES.get(match["chip"], match["chip"]), TPUS)):
        return _slice(text, chip, int(match["count"]), topology)
    for chip_name, count in (
        (name, 1),
        *((match["chip"], int(match["count"])) for match in [_GPU.fullmatch(name)] if match),
    ):
        if chip := _named(chip_name, GPUS):
            return _without_topology(_gpus(text, chip, count), topology)
    known = [*(f"{chip.name}x1" for chip in GPUS), *(f"{chip.name}-8" for chip in TPUS), "cpu"]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "`convoy launch accelerators` lists them."
    raise exits.CannotRun(f"--accelerator={text} is none that is known; {hint}")


def slices(chip: Chip) -> list[Accelerator]:
    """The slices of a kind of TPU that have a usual topology, smallest first."""
    counts = _FLAT if chip.flat else [*_SMALL_CUBES, 64, 128, 256, 512, 1024, 2048, 4096]
    least = min(machine.chips for machine in chip.machines)
    made = (count for count in counts if least <= count <= chip.largest and count not in chip.without)
    return [resolve(f"{chip.name}-{count * chip.cores}") for count in made]


def _slice(text: str, chip: Chip, count: int, topology: str) -> Accelerator:
    chips, odd = divmod(count, chip.cores)
    if odd or chips > chip.largest:
        what = (
            f"counts TensorCores, two a chip: give an even number up to {chip.largest * 2}"
            if chip.cores == 2
            else (f"counts chips, of which there are at most {chip.largest}")
        )
        raise exits.CannotRun(f"--accelerator={text} is not possible: {chip.name} {what}.")
    usual = "" if chips in chip.without else _FLAT.get(chips) if chip.flat else _SMALL_CUBES.get(chips) or _cube(chips)
    match = _TOPOLOGY.fullmatch(topology or usual or "")
    if not match or not _fits(match["sides"], chips, chip):
        hint = f"give one of {chips} chips, for example {usual}" if usual else _nearest(chip, chips)
        given = f"--topology={topology} is not one of {text}" if topology else f"--accelerator={text} has no topology"
        raise exits.CannotRun(f"{given}; {hint}.")
    # One machine if there is one with all chips; else four chips on each.
    machines = {machine.chips: machine for machine in reversed(chip.machines)}
    each = int(match["chips"] or 0) or (chips if chips in machines else 4)
    if each not in machines or chips % each:
        raise exits.CannotRun(
            f"--topology={topology}: {chip.name} has machines of {', '.join(map(str, sorted(machines)))} chips."
        )
    machine = machines[each]
    if chip.name == "v3" and chips > each:
        machine = chip.machines[1]
    return Accelerator(f"{chip.type}-{count}", "tpu", chip, chips, chips // each, match["sides"], machine)


def _gpus(text: str, chip: Chip, count: int) -> Accelerator:
    fitting = [machine for machine in chip.machines if machine.chips == count]
    if chip.machines and not fitting:
        there = ", ".join(str(one) for one in sorted({machine.chips for machine in chip.machines}))
        raise exits.CannotRun(f"--accelerator={text} is not possible: {chip.title} machines have {there} of them.")
    # Of those that differ in cores alone the largest: images have to be decoded and augmented.
    return Accelerator(f"{chip.name}x{count}", "gpu", chip, count, machine=fitting[-1] if fitting else None)


def _named(name: str, chips: tuple[Chip, ...]) -> Chip | None:
    return next((chip for chip in chips if chip.name == name), None)


def _without_topology(found: Accelerator, topology: str) -> Accelerator:
    if topology:
        raise exits.CannotRun(f"--topology={topology} is for TPU slices, which {found.name} is not; leave it out.")
    return found


def _fits(sides: str, chips: int, chip: Chip) -> bool:
    lengths = [int(side) for side in sides.split("x")]
    if math.prod(lengths) != chips or len(lengths) != (2 if chip.flat else 3):
        return False
    if chip.flat:
        return sides in _FLAT.values()
    return sides in _SMALL_CUBES.values() or all(length % 4 == 0 for length in lengths)


def _cube(chips: int) -> str:
    """The most even AxBxC of multiples of four; empty if there is none."""
    fours, rest = divmod(chips, 64)
    if rest or not fours:
        return ""
    found = [
        (c - a, (a, b, c))
        for a, b in itertools.product(range(1, fours + 1), repeat=2)
        if a <= b and fours % (a * b) == 0 and (c := fours // (a * b)) >= b
    ]
    return "x".join(str(4 * side) for side in min(found)[1])


def _nearest(chip: Chip, chips: int) -> str:
    near = min(slices(chip), key=lambda one: abs(one.chips - chips))
    return f"the nearest with one is {near.name}, {near.topology}"
