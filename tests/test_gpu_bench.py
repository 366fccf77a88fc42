"""benchmarks/step_gpu.py where there is no GPU, which is all that can be shown of it without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "step_gpu.py"


@pytest.mark.parametrize("answer", [None, "NVIDIA-SMI has failed"])
def test_without_a_gpu(answer, tmp_path):
    """A sentence, before anything is installed."""
    if answer:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho {answer}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(
        [sys.executable, SCRIPT], env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 78
    assert done.stderr.startswith("convoy: nvidia-smi shows no NVIDIA GPU here; ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("mebibytes", "batch"), [(143771, 256), (81559, 256), (46068, 128), (24564, 64), (15360, 32)])
def test_batch(mebibytes, batch, tmp_path, monkeypatch):
    """Three sides share the memory that nvidia-smi shows."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    import step_gpu

    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho NVIDIA L4, 570.86.15, {mebibytes}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    gpu = step_gpu.find_gpu()
    assert gpu[:2] == ("NVIDIA L4", "570.86.15")
    assert step_gpu.network_for(gpu).batch == batch
