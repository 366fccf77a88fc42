"""Results of cases, which have processes of their own; Keras' global settings as they were, after every test of this one."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from case_results import Case

from support import once

PROGRAM = Path(__file__).with_name("engine_cases.py")


@pytest.fixture(scope="session")
def case(tmp_path_factory) -> Callable[..., Case]:
    """case(backend, devices, "clipping") -> name -> array; with `long`, of a case that has a process of its own."""

    @functools.cache
    def results(backend: str, devices: int, *names: str) -> Case:
        def make(place: Path) -> None:
            argv = [sys.executable, PROGRAM, backend, str(devices), place / "cases.npz", *names]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
            assert done.returncode == 0, done.stderr

        place = once(tmp_path_factory, "-".join(("cases", backend, str(devices), *names)).replace("/", "_"), make)
        with np.load(place / "cases.npz") as found:
            return dict(found)

    def get(backend: str, devices: int, name: str, long: bool = False) -> Case:
        every = results(backend, devices, *([name] if long else []))
        found = {key.removeprefix(f"{name}:"): value for key, value in every.items() if key.startswith(f"{name}:")}
        assert found, f"no case {name} on {devices} devices"
        return found

    return get


@pytest.fixture(autouse=True)
def keras_settings():
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
