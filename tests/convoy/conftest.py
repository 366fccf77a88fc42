"""Servers of Google Cloud Storage's API, and a proxy that makes faults before them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckets import Emulator
from convoy.store import Store, open_store
from fault_proxy import FaultProxy
from strict_bucket import StrictBucket


@pytest.fixture(scope="session", params=[pytest.param("fake-gcs-server", marks=pytest.mark.thorough), "strict"])
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator | StrictBucket]:
    """Our own server, which enforces what Google documents; and the real program, which lets some wrong requests pass."""
    if request.param == "fake-gcs-server":
        yield request.getfixturevalue("emulator")
        return
    with StrictBucket() as server:
        server.create("bucket")
        yield server


@pytest.fixture
def proxy(emulator: Emulator | StrictBucket, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stands between the emulator and stores that are opened from now on, which try again at once."""
    monkeypatch.setattr("convoy.store.gcs_errors.PAUSE_SECONDS", (0.02, 0.1))
    with FaultProxy(emulator.host) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, bucket: str) -> Store:
    """The run directory, by way of the proxy."""
    return open_store(bucket)
