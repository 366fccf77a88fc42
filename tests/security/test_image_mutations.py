"""Damaged images of every format are refused in words, or shown at the size that they declare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mutations import SEED, case, torn

pytestmark = pytest.mark.slow
COUNT = 2000


def test_any_image_is_shown_or_refused():
    from image_mutations import pictures, read

    for format, right in pictures().items():
        assert read(right) == "shown", format
        for number in range(3):
            with case(SEED, number) as chance:
                read(torn(right, chance))


@pytest.mark.thorough
def test_no_image_ends_the_process():
    program = Path(__file__).with_name("image_mutations.py")
    done = subprocess.run(
        [sys.executable, program, str(COUNT)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert all(sum(of_format.values()) == COUNT for of_format in outcomes.values())
    assert all(len(of_format) > 2 for of_format in outcomes.values()), outcomes
