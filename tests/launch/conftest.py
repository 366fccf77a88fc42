"""A cluster on the loopback interface, and jobs in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.config import kube_config

from convoy.launch.targets.kubernetes import errors as kube_errors
from convoy.launch.targets.kubernetes.target import KubernetesTarget
from crds import jobset_errors
from kube_jobs import spec
from kube_lives import Life
from kube_server import KubeServer


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[KubeServer]:
    """A cluster that the kubeconfig names; nobody waits long for anything."""
    monkeypatch.setattr(kube_errors, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(KubernetesTarget, "poll_seconds", 0.01)
    with KubeServer(jobset_errors) as server:
        config = server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield server


@pytest.fixture
def target(server) -> KubernetesTarget:
    return KubernetesTarget("default", "")


@pytest.fixture
def life(server, target) -> Life:
    """Of a JobSet that was submitted."""
    target.submit(spec())
    return Life(server, "rn50")


@pytest.fixture
def indexed(server, target) -> Life:
    """Of an Indexed Job that was submitted."""
    target.submit(spec("--gang=indexed"))
    return Life(server, "rn50", "jobs")
