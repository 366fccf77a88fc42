"""Networks of the zoo end alike on 1, 2 and 4 devices and on both engines: BatchNormalization and random layers within them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import once

pytestmark = pytest.mark.thorough
PROGRAM = Path(__file__).with_name("zoo_cases.py")
NETWORKS = ["hub:vit_toy", "keras:MobileNetV3Small", "keras:EfficientNetV2B0"]
Case = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    """case(backend, devices, network) -> name -> array."""

    def get(backend: str, devices: int, network: str) -> Case:
        def make(place: Path) -> None:
            argv = [sys.executable, PROGRAM, backend, str(devices), place / "cases.npz"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done.stderr

        with np.load(once(tmp_path_factory, f"zoo-{backend}-{devices}", make) / "cases.npz") as found:
            every = dict(found)
        return {name.partition("|")[2]: value for name, value in every.items() if name.startswith(f"{network}|")}

    return get


def assert_equal(found: Case, expected: Case, relative: float) -> None:
    assert expected
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind in "US":
            assert str(found[name]) == "none", "something depends on the number of devices"
            continue
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(found[name] - 1.0 * value).max() <= relative * scale, name


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("backend", "devices"), [("tensorflow", 2), ("tensorflow", 4), ("jax", 2), ("jax", 4)])
def test_several_devices_end_as_one(case, backend, devices, network):
    if (backend, network) == ("jax", NETWORKS[2]):
        pytest.skip("XLA compiles and runs EfficientNet for minutes on a CPU")
    assert_equal(case(backend, devices, network), case(backend, 1, network), 1e-9)


@pytest.mark.parametrize("network", NETWORKS[:2])
def test_the_engines_end_alike(case, network):
    ours, theirs = (
        {name: value for name, value in case(backend, 1, network).items() if "seed_generator" not in name}
        for backend in ("jax", "tensorflow")
    )
    assert_equal(ours, theirs, 1e-7)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_mixed_precision_trains(case, backend):
    mixed, exact = case(backend, 1, "mixed"), case(backend, 1, "hub:vit_toy")
    np.testing.assert_allclose(mixed["losses"], exact["losses"], rtol=0.05)
    assert mixed["model/logits/kernel"].dtype == np.float32
