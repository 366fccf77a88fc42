"""A stand-in for notices of Google's metadata server on loopback: real HTTP, and answers that wait for a change."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support import serving

PREEMPTED, MAINTENANCE = "instance/preempted", "instance/maintenance-event"


class MetadataServer(ThreadingHTTPServer):
    """`asked` lists (key, last_etag) of every question; a value's etag is "etag-VALUE"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values = {PREEMPTED: "FALSE", MAINTENANCE: "NONE"}
        self.asked: list[tuple[str, str]] = []
        self.changed = threading.Condition()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def announce(self, key: str, value: str) -> None:
        with self.changed:
            self.values[key] = value
            self.changed.notify_all()

    def wait_for_question(self, key: str, etag: str) -> None:
        """Waits until a client that knows the value of this etag asks for the next one."""
        with self.changed:
            assert self.changed.wait_for(lambda: (key, etag) in self.asked, timeout=60), self.asked

    def answer(self, key: str, etag: str, seconds: float) -> str:
        with self.changed:
            self.asked.append((key, etag))
            self.changed.notify_all()
            self.changed.wait_for(lambda: f"etag-{self.values[key]}" != etag, timeout=seconds)
            return self.values[key]


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        key = url.path.removeprefix("/computeMetadata/v1/")
        query = dict(urllib.parse.parse_qsl(url.query))
        if self.headers["Metadata-Flavor"] != "Google" or key not in self.server.values:
            self.send_error(403 if key in self.server.values else 404)
            return
        assert query["wait_for_change"] == "true"
        value = self.server.answer(key, query["last_etag"], float(query["timeout_sec"]))
        self.send_response(200)
        self.send_header("ETag", f"etag-{value}")
        self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        self.wfile.write(value.encode())

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # the run that asked has left
            super().handle()


@contextmanager
def metadata_server() -> Iterator[MetadataServer]:
    server = MetadataServer()
    with serving(server, server.serve_forever, 0.05):
        yield server
