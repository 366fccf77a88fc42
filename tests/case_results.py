"""Results of the cases of tests/engines, name -> array, and how they are compared."""

from __future__ import annotations

import numpy as np

Case = dict[str, np.ndarray]


def state(found: Case, label: str) -> Case:
    """One of several states in a case."""
    return {name.removeprefix(f"{label}/"): value for name, value in found.items() if name.startswith(f"{label}/")}


def assert_same_bits(found: Case, expected: Case) -> None:
    assert expected
    assert found.keys() == expected.keys()
    differing = [name for name, value in expected.items() if found[name].tobytes() != value.tobytes()]
    assert not differing


def assert_neither_cuts_nor_a_restart_change_a_bit(found: Case) -> None:
    assert_same_bits(state(found, "cut"), state(found, "once"))
    assert_same_bits(state(found, "restored") | {"losses": found["once/losses"]}, state(found, "once"))


def assert_equal(found: Case, expected: Case, relative: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(found[name] - 1.0 * value).max() <= relative * scale, name
