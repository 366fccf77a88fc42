"""The run that others are compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support import QUICK, command, environment, once


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The directory of a QUICK run that nobody disturbed."""

    def make(place: Path) -> None:
        argv = command("train", *QUICK, f"--run_dir={place / 'run'}")
        subprocess.run(argv, env=environment(), check=True, timeout=150)

    return once(tmp_path_factory, "undisturbed", make) / "run"
