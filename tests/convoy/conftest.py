"""An emulator of Google Cloud Storage, with or without a proxy that makes faults before it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from buckets import Emulator
from convoy.store import Store, open_store
from fault_proxy import FaultProxy


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.create("bucket")
        yield emulator


@pytest.fixture
def place(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty run directory in the emulator."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.host)
    monkeypatch.delenv("CONVOY_WRITER", raising=False)
    return f"gs://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def proxy(emulator: Emulator, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stands between the emulator and stores that are opened from now on, which try again at once."""
    monkeypatch.setattr("convoy.store.gcs_errors.PAUSE_SECONDS", (0.02, 0.1))
    with FaultProxy(emulator.host) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, place: str) -> Store:
    """The run directory, by way of the proxy."""
    return open_store(place)
