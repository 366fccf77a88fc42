"""Names of accelerators: Google's two ways of counting, shapes and machines; unknown figures stay unknown."""

from __future__ import annotations

import dataclasses
import random

import pytest

from convoy import accelerators, exits
from convoy.accelerators import all_of, resolve, short
from convoy.chips import CHIPS, size


@pytest.mark.parametrize(
    ("text", "name", "topology", "chips", "hosts", "machine", "label"),
    [
        # Chips are counted.
        ("v5e-1", "v5litepod-1", "1x1", 1, 1, "ct5lp-hightpu-1t", "tpu-v5-lite-podslice"),
        ("v5e-4", "v5litepod-4", "2x2", 4, 1, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v5e-8", "v5litepod-8", "2x4", 8, 1, "ct5lp-hightpu-8t", "tpu-v5-lite-podslice"),
        ("v5litepod-16", "v5litepod-16", "4x4", 16, 4, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v5e-16", "v5litepod-16", "4x4", 16, 4, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v6e-8", "v6e-8", "2x4", 8, 1, "ct6e-standard-8t", "tpu-v6e-slice"),
        ("v6e-256", "v6e-256", "16x16", 256, 64, "ct6e-standard-4t", "tpu-v6e-slice"),
        # TensorCores are counted, two a chip.
        ("v3-8", "v3-8", "2x2", 4, 1, "ct3-hightpu-4t", "tpu-v3-device"),
        ("v3-32", "v3-32", "4x4", 16, 4, "ct3p-hightpu-4t", "tpu-v3-slice"),
        ("v4-8", "v4-8", "2x2x1", 4, 1, "ct4p-hightpu-4t", "tpu-v4-podslice"),
        ("v4-32", "v4-32", "2x2x4", 16, 4, "ct4p-hightpu-4t", "tpu-v4-podslice"),
        ("v5p-8", "v5p-8", "2x2x1", 4, 1, "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("V5P-256", "v5p-256", "4x4x8", 128, 32, "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("v5p-12288", "v5p-12288", "16x16x24", 6144, 1536, "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("v7x-2", "tpu7x-2", "1x1x1", 1, 1, "tpu7x-standard-1t", "tpu7x"),
        ("7x-8", "tpu7x-8", "2x2x1", 4, 1, "tpu7x-standard-4t", "tpu7x"),
        ("tpu7x-128", "tpu7x-128", "4x4x4", 64, 16, "tpu7x-standard-4t", "tpu7x"),
        # A machine type that is named.
        ("v5e-8@4t", "v5litepod-8", "2x4", 8, 2, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v6e-8@ct6e-standard-4t", "v6e-8", "2x4", 8, 2, "ct6e-standard-4t", "tpu-v6e-slice"),
        ("v7x-8@tpu7x-ultranet-4t", "tpu7x-8", "2x2x1", 4, 1, "tpu7x-ultranet-4t", "tpu7x"),
    ],
)
def test_slices(text, name, topology, chips, hosts, machine, label):
    accelerator = resolve(text)
    assert dataclasses.astuple(accelerator)[:2] == (name, "tpu")
    assert (accelerator.topology, accelerator.chips, accelerator.hosts) == (topology, chips, hosts)
    assert (accelerator.machine_type, accelerator.gke_label) == (machine, label)


@pytest.mark.parametrize(
    ("text", "name", "chips", "machine", "label"),
    [
        ("l4", "l4x1", 1, "g2-standard-4", "nvidia-l4"),
        ("l4x4", "l4x4", 4, "g2-standard-48", "nvidia-l4"),
        ("l4x1@g2-standard-16", "l4x1", 1, "g2-standard-16", "nvidia-l4"),
        ("a100x8", "a100x8", 8, "a2-highgpu-8g", "nvidia-tesla-a100"),
        ("a100-40gbx8", "a100x8", 8, "a2-highgpu-8g", "nvidia-tesla-a100"),
        ("A100-80GBx2", "a100-80gbx2", 2, "a2-ultragpu-2g", "nvidia-a100-80gb"),
        ("h100x8", "h100x8", 8, "a3-highgpu-8g", "nvidia-h100-80gb"),
        ("h100-megax8", "h100-megax8", 8, "a3-megagpu-8g", "nvidia-h100-mega-80gb"),
        ("h200x8", "h200x8", 8, "a3-ultragpu-8g", "nvidia-h200-141gb"),
        ("b200x8", "b200x8", 8, "a4-highgpu-8g", "nvidia-b200"),
        ("t4x2", "t4x2", 2, "", "nvidia-tesla-t4"),
    ],
)
def test_gpus(text, name, chips, machine, label):
    accelerator = resolve(text)
    assert (accelerator.name, accelerator.kind, accelerator.topology) == (name, "gpu", "")
    assert (accelerator.chips, accelerator.chips_per_host, accelerator.hosts) == (chips, chips, 1)
    assert (accelerator.machine_type, accelerator.gke_label) == (machine, label)


def test_a_cpu_is_no_accelerator():
    assert resolve("cpu") == accelerators.CPU
    assert (accelerators.CPU.chips, accelerators.CPU.hosts) == (0, 1)


def test_a_topology_completes_a_name():
    assert resolve("v5p", "4x4x8") == resolve("v5p-256")
    assert resolve("v5e-8", "2x4") == resolve("v5e-8")
    assert resolve("v5e@4t", "2x4").hosts == 2
    # 512 chips are 8x8x8, unless they are asked for in another shape.
    assert resolve("v4-1024").topology == "8x8x8"
    assert resolve("v4-1024", "4x8x16").topology == "4x8x16"


def test_machines_chips_and_topology_agree_for_every_slice():
    slices = [accelerator for accelerator in all_of() if accelerator.kind == "tpu"]
    assert {accelerator.chip.name for accelerator in slices} == {"v3", "v4", "v5e", "v5p", "v6e", "v7x"}
    for accelerator in slices:
        assert accelerator.hosts * accelerator.chips_per_host == size(accelerator.topology) == accelerator.chips
        # One host, or whole hosts of four: what the hardware is made of.
        assert accelerator.hosts == 1 or accelerator.chips_per_host == 4
        assert accelerator.machine_type.endswith(f"-{accelerator.chips_per_host}t")


def test_every_machine_type_has_the_number_of_gpus_that_its_name_says():
    machines = {
        machine.type: machine for chip in CHIPS if chip.kind == "gpu" for machine in chip.machines if machine.type
    }
    for machine in machines.values():
        family, _, last = machine.type.rpartition("-")
        if family == "g2-standard":
            assert machine.vcpus == int(last)
        else:
            assert machine.chips == int(last.removesuffix("g"))
    expected = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 48: 4, 96: 8}
    assert {vcpus: machines[f"g2-standard-{vcpus}"].chips for vcpus in expected} == expected


def test_every_name_of_the_list_is_understood():
    seed = random.randrange(2**32)
    print("seed", seed)
    for accelerator in random.Random(seed).sample(list(all_of()), 150):
        machine = f"@{accelerator.machine_type}" if accelerator.machine_type else ""
        for name in (accelerator.name, short(accelerator), short(accelerator).upper()):
            assert resolve(name + machine, accelerator.topology) == accelerator


def test_an_unknown_value_is_none_and_never_0():
    for accelerator in all_of():
        figures = (
            accelerator.vcpus,
            accelerator.memory_gib,
            accelerator.price_per_hour,
            accelerator.spot_price_per_hour,
        )
        figures += (accelerator.chip.hbm_gb, accelerator.chip.link_gb_per_s, *accelerator.chip.peak_flops.values())
        assert all(figure is None or figure > 0 for figure in figures), accelerator
        if accelerator.spot_price_per_hour:
            assert accelerator.spot_price_per_hour < accelerator.price_per_hour
    assert resolve("h200x8").price(spot=False) is None
    assert resolve("l4x1").price(spot=True) == 0.23


def test_a_price_has_a_date_and_a_source():
    for text in ("l4x1", "v5e-8"):
        for spot in (False, True):
            source = resolve(text).price_source(spot)
            assert source.startswith("spot" if spot else "list")
            assert "2026-" in source
            assert "us-central1" in source
    assert resolve("v5e-8").price_source(True) != resolve("l4x1").price_source(True)


@pytest.mark.parametrize(
    ("text", "topology", "words"),
    [
        ("l5x4", "", "did you mean l4x4"),
        ("v5-16", "", "did you mean .*v5e-16"),
        ("v2-8", "", "is not known; did you mean"),
        ("potato", "", "`convoy launch accelerators` lists those there are"),
        ("", "", "is not known"),
        ("v5e", "", "how many. Give v5e-N, which counts chips"),
        ("v5p", "", "v5p-N, which counts TensorCores, 2 a chip"),
        ("v5e-12", "", "the nearest are v5e-8 and v5e-16"),
        ("v5p-4", "", "no slice has 4 .v5p-N counts TensorCores, 2 a chip.; the nearest are v5p-8 and v5p-16"),
        ("v5e-16", "2x4", "do not agree: the name counts chips, so that topology is v5e-8"),
        ("v5p-8", "2x2x2", "counts TensorCores, 2 a chip, so that topology is v5p-16"),
        ("v5p-8", "2x2", "v5p has none of that shape; 2x2x"),
        ("v5e-8", "4by2", "--topology=4by2 is not possible"),
        ("v5e-16@8t", "", "no such machine carries it; of v5e ct5lp-hightpu-4t would"),
        ("l4x3", "", "no machine has 3 l4; there are those with 1 or 2 or 4 or 8"),
        ("l4x2@g2-standard-16", "", "of l4 g2-standard-24 would"),
        ("t4x1@n1-standard-4", "", "no type that is known"),
        ("l4x2", "2x1", "only TPU slices have one"),
        ("cpu", "2x2", "neither a topology nor a machine type"),
    ],
)
def test_an_impossible_accelerator_is_a_sentence(text, topology, words):
    with pytest.raises(exits.CannotRun, match=words):
        resolve(text, topology)
