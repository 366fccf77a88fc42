"""A proxy that makes faults before the emulator of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckets import Emulator
from convoy.store import Store, open_store
from fault_proxy import FaultProxy


@pytest.fixture
def proxy(emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stands between the emulator and stores that are opened from now on, which try again at once."""
    monkeypatch.setattr("convoy.store.gcs_errors.PAUSE_SECONDS", (0.02, 0.1))
    with FaultProxy(emulator.host) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, bucket: str) -> Store:
    """The run directory, by way of the proxy."""
    return open_store(bucket)
