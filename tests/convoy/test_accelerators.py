"""Names of accelerators: what they count, how many machines that is, and what there is not."""

from __future__ import annotations

import math

import pytest

from convoy import exits
from convoy.accelerators import resolve, slices
from convoy.chips import GPUS, TPUS


@pytest.mark.parametrize(
    ("name", "chips", "topology", "hosts", "machine"),
    [
        # Chips.
        ("v5e-1", 1, "1x1", 1, "ct5lp-hightpu-1t"),
        ("v5e-4", 4, "2x2", 1, "ct5lp-hightpu-4t"),
        ("v5litepod-8", 8, "2x4", 1, "ct5lp-hightpu-8t"),
        ("v5e-16", 16, "4x4", 4, "ct5lp-hightpu-4t"),
        ("v6e-8", 8, "2x4", 1, "ct6e-standard-8t"),
        ("v6e-256", 256, "16x16", 64, "ct6e-standard-4t"),
        # TensorCores, two a chip.
        ("v3-8", 4, "2x2", 1, "ct3-hightpu-4t"),
        ("v3-32", 16, "4x4", 4, "ct3p-hightpu-4t"),
        ("v4-8", 4, "2x2x1", 1, "ct4p-hightpu-4t"),
        ("v4-32", 16, "2x2x4", 4, "ct4p-hightpu-4t"),
        ("v5p-8", 4, "2x2x1", 1, "ct5p-hightpu-4t"),
        ("v5p-12288", 6144, "16x16x24", 1536, "ct5p-hightpu-4t"),
        ("v7x-8", 4, "2x2x1", 1, "tpu7x-standard-4t"),
        ("tpu7x-128", 64, "4x4x4", 16, "tpu7x-standard-4t"),
        # Of each worker.
        ("l4", 1, "", 1, "g2-standard-16"),
        ("l4x4", 4, "", 1, "g2-standard-48"),
        ("H100x8", 8, "", 1, "a3-highgpu-8g"),
        ("a100-80gbx2", 2, "", 1, "a2-ultragpu-2g"),
        ("t4x2", 2, "", 1, ""),
        ("cpu", 0, "", 1, ""),
    ],
)
def test_a_name_says_how_many_chips_and_machines(name, chips, topology, hosts, machine):
    found = resolve(name)
    assert (found.chips, found.topology, found.hosts, found.machine_type) == (chips, topology, hosts, machine)


def test_short_names_and_googles_are_the_same():
    assert resolve("v5e-16") == resolve("v5litepod-16")
    assert resolve("v7x-8") == resolve("tpu7x-8") == resolve("7x-8")
    assert resolve("v5e-16").name == "v5litepod-16"


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
def test_every_slice_is_its_machines_chips(chip):
    found = slices(chip)
    assert len(found) > 5
    for one in found:
        assert one.hosts * one.chips_per_host == math.prod(map(int, one.topology.split("x"))) == one.chips
        assert one.chips_per_host == one.machine.chips
        assert one == resolve(one.name)
        assert (one.hosts > 1) == (one.chips != one.machine.chips)


@pytest.mark.parametrize("chip", GPUS, ids=lambda chip: chip.name)
def test_every_machine_has_the_chips_that_it_is_chosen_for(chip):
    for machine in chip.machines:
        assert resolve(f"{chip.name}x{machine.chips}").machine.chips == machine.chips


def test_a_topology_chooses_where_a_name_does_not():
    assert resolve("v5e-8", "2x4").hosts == 1
    assert resolve("v5e-8", "2x4@4t").hosts == 2
    assert resolve("v5p-512", "4x4x16").topology == "4x4x16"


def test_what_is_not_known_is_none():
    assert resolve("v7x-8").price_per_hour is None
    assert resolve("h200x8").price_per_hour is None
    assert resolve("l4x4").memory_gib is None
    assert resolve("t4x1").machine is None


@pytest.mark.parametrize(
    ("name", "topology", "words"),
    [
        ("h10x8", "", "did you mean h100x1"),
        ("nonsense", "", "convoy launch accelerators"),
        ("l4x3", "", "have 1, 2, 4 of them"),
        ("v5p-7", "", "give an even number up to 12288"),
        ("v5e-12", "", "the nearest with one is v5litepod-8, 2x4"),
        ("v3-16", "", "the nearest"),
        ("v5e-512", "", "at most 256"),
        ("v5e-16", "2x8", "--topology=2x8 is not one of v5e-16; give one of 16 chips, for example 4x4"),
        ("v5p-8", "2x2", "2x2x1"),
        ("v5e-8", "2x4@2t", "machines of 1, 4, 8 chips"),
        ("l4x4", "2x2", "is for TPU slices"),
        ("cpu", "2x2", "is for TPU slices"),
    ],
)
def test_what_there_is_not_is_a_sentence(name, topology, words):
    with pytest.raises(exits.CannotRun, match=words):
        resolve(name, topology)
