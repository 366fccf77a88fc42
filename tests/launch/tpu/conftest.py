"""A zone of Cloud TPU on the loopback interface, and jobs for it."""

from __future__ import annotations

import functools

import pytest

from convoy.launch.command_line import from_argv
from convoy.launch.targets.tpu_vm import bundle

_packed = functools.cache(bundle.build)  # packs the whole package: once for each model and backend


@pytest.fixture
def server():
    from tpu_server import TpuServer

    with TpuServer() as server:
        yield server


@pytest.fixture
def target(server, monkeypatch):
    # Late: the modules of these tests skip where the client is not installed.
    from convoy.launch.targets.tpu_vm import api as tpu_api
    from convoy.launch.targets.tpu_vm import target as tpu_vm

    monkeypatch.setattr(tpu_vm.TpuVmTarget, "poll_seconds", 0.01)
    monkeypatch.setattr(tpu_vm.bundle, "build", _packed)
    monkeypatch.setattr(tpu_api, "FIRST_PAUSE_SECONDS", 0.01)
    return tpu_vm.TpuVmTarget("p", "z", server.client())


@pytest.fixture
def spec(tmp_path):
    def make(*own, accelerator="v5e-16", backend="jax", train=()):
        place = ["--target=tpu-vm", "--project=p", "--zone=z", f"--bucket={tmp_path}/bucket", "--name=rn50"]
        run = ["--run_dir=gs://b/runs/rn50", f"--backend={backend}", "--batch_size=1024", *train]
        return from_argv([*place, f"--accelerator={accelerator}", *own, "--", *run])

    return make
