"""What plain Keras' `fit` gets wrong, so that the day it gets it right is noticed: docs/conformance.md is about these cases.

All but the table need Keras to change, so they are thorough.

Each is expected to fail by the one wrong number, or the one error, that Keras 3.15.1 gives. Any other outcome fails plainly.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY, once

PROGRAM = Path(__file__).with_name("keras_defects.py")
PAGE = REPOSITORY / "docs" / "conformance.md"

# case: (right, what Keras gives: a number or a pattern of its error)
ON_TWO_DEVICES = {
    "clipping": (-1.0, -2.0),
    "loss_scale": (0.0, -math.inf),
    "accumulation": (-2.0, "RuntimeError: .*merge_call"),
    "average_overwrite": (-1.5, "RuntimeError: .*merge_call"),
    "moving_statistics": ([25.0], [0.0, 50.0]),
    "cancellation": ([1.0], [0.0]),
    "dropout_masks": (2, 1),
    "partial_batch": (-19 / 3, -9.0),
    "empty_replica": (1.0, math.nan),
    "odd_first_batch": (-2.0, "InvalidArgumentError: .*AddN"),
    "steps_per_execution": (-4.0, "InvalidArgumentError: .*must feed a value for placeholder"),
}
ON_ONE_DEVICE = {
    "phantom_rows": (1.0, 0.8),
    "phantom_steps": (8, 10),
    "dropout_state": (1, 0),
}
CASES = ON_TWO_DEVICES | ON_ONE_DEVICE


def outcomes(devices: int, place: Path) -> None:
    """Writes cases.json: case -> what plain Keras comes to on that many devices, all from one process."""
    argv = [sys.executable, "-P", str(PROGRAM), str(devices)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode != 0:  # no assertion: the expected failures are assertions
        pytest.fail(f"exit code {done.returncode}\n{done.stderr}")
    (place / "cases.json").write_text(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def on_one_device(tmp_path_factory):
    return json.loads((once(tmp_path_factory, "keras-1", lambda place: outcomes(1, place)) / "cases.json").read_text())


@pytest.fixture(scope="session")
def on_two_devices(tmp_path_factory):
    return json.loads((once(tmp_path_factory, "keras-2", lambda place: outcomes(2, place)) / "cases.json").read_text())


def agrees(found: float | list[float] | str, expected: float | list[float] | str) -> bool:
    if isinstance(expected, str):
        return isinstance(found, str) and re.match(expected, found, re.DOTALL) is not None
    return not isinstance(found, str) and found == pytest.approx(expected, rel=1e-5, nan_ok=True)


def assert_right(found: float | list[float] | str, case: str) -> None:
    right, wrong = CASES[case]
    if not agrees(found, right) and not agrees(found, wrong):
        pytest.fail(f"{case}: {found}, neither {right} nor the known {wrong}")
    assert agrees(found, right), f"{case}: {found} for {right}"


defect = pytest.mark.xfail(raises=AssertionError, strict=True, reason="a defect of Keras, docs/conformance.md")


@pytest.mark.thorough
@defect
@pytest.mark.parametrize("case", ON_TWO_DEVICES)
def test_keras_on_two_devices(on_two_devices, case):
    assert_right(on_two_devices[case], case)


@pytest.mark.thorough
@defect
@pytest.mark.parametrize("case", ON_ONE_DEVICE)
def test_keras_on_one_device(on_one_device, case):
    assert_right(on_one_device[case], case)


@pytest.mark.thorough
@pytest.mark.parametrize("case", [case for case in ON_TWO_DEVICES if case != "dropout_masks"])
def test_right_is_what_one_device_gives(on_one_device, case):
    assert_right(on_one_device[case], case)


def shown(value: float | list[float] | str) -> str:
    """A value as the table has it: three digits, or the class of an error."""
    if isinstance(value, str):
        return value.split(":")[0]
    return ", ".join(f"{number:.3g}" for number in (value if isinstance(value, list) else [value]))


def test_the_table_and_the_tests_agree():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines() if "|" in line
    ]
    table = {row[0].strip("`"): row for row in rows if row[0].startswith("`")}
    assert table.keys() == CASES.keys()
    for case, values in CASES.items():
        for value, cell in zip(values, table[case][2:4], strict=True):
            assert shown(value) == cell.split(" (")[0], case
    for name, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text()):
        assert (REPOSITORY / name).is_file(), f"{PAGE.name} -> {name}"
        assert not function or f"def {function}(" in (REPOSITORY / name).read_text(), (
            f"{PAGE.name} -> {name}::{function}"
        )
