"""The run that others are compared with."""

from __future__ import annotations

import subprocess

import pytest

from support import QUICK, command, environment


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The directory of a QUICK run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    subprocess.run(command("train", *QUICK, f"--run_dir={run_dir}"), env=environment(), check=True, timeout=150)
    return run_dir
