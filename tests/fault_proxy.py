"""A proxy before an emulator of Google Cloud Storage that delays, breaks and refuses requests as networks and servers do.

In a test, the next requests that fit get a fault:

    with FaultProxy(emulator.host) as proxy:
        proxy.fault("lost", method="POST", path="uploadType=multipart")

In a process of its own, any request may get any fault:

    python tests/fault_proxy.py --upstream=http://127.0.0.1:4443 --port=4444 --seed=1 --rate=0.05
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = {
    "refuse": "the connection is reset before the request is read",
    "reset_request": "it is reset in the middle of the request's body",
    "reset_answer": "it is reset in the middle of the answer's body",
    "lost": "the request is carried out, and the connection reset without an answer",
    "delay": "the answer comes late",
    "truncate": "half of the answer arrives, and looks whole",
    "flip": "a byte of the answer is another one",
    "flip_request": "a byte of the request's body is another one",
    "408": "request timeout",
    "429": "too many requests",
    "500": "internal error",
    "503": "unavailable",
    "400": "a request that no server understands",
    "401": "unauthorized",
    "403": "forbidden",
}
# What may happen at any time. Bytes of an answer are damaged only where it is an object: the rest has no checksum.
RANDOM = ["refuse", "reset_request", "reset_answer", "lost", "delay", "truncate", "flip", "408", "429", "500", "503"]
STORM = 3  # so many requests in a row get an answer like 503


@dataclass
class Fault:
    kind: str
    method: str
    path: str  # a regular expression that is found in path and query
    times: int
    seconds: float


class FaultProxy:
    """Listens on the loopback interface and passes everything on to `upstream`.

    Args:
      seed, rate: each request gets a random fault with this probability.
      seconds: how late an answer is that comes late by chance.
    """

    def __init__(self, upstream: str, port: int = 0, seed: int = 0, rate: float = 0.0, seconds: float = 2.0):
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[tuple[str, str]] = []  # method and path of every request
        self._faults: list[Fault] = []
        self._random, self._rate, self._seconds = random.Random(seed), rate, seconds
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuses connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    def join(self) -> None:
        self._thread.join()

    def fault(self, kind: str, method: str = "", path: str = "", times: int = 1, seconds: float = 0.0) -> None:
        """The next `times` requests of this method, whose path and query contain this pattern, get this fault."""
        assert kind in FAULTS, kind
        with self._lock:
            self._faults.append(Fault(kind, method, path, times, seconds))

    def calm(self) -> None:
        """Removes all faults and forgets the requests seen."""
        with self._lock:
            self._faults.clear()
            self.seen.clear()

    def count(self, method: str, path: str = "") -> int:
        """The number of requests of this method and pattern."""
        with self._lock:
            return sum(seen == method and bool(re.search(path, where)) for seen, where in self.seen)

    def choose(self, method: str, path: str) -> tuple[str, float]:
        """The fault of a request and its seconds; an empty one for none."""
        with self._lock:
            self.seen.append((method, path))
            for fault in self._faults:
                if fault.times and fault.method in ("", method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.kind, fault.seconds
            if self._random.random() >= self._rate:
                return "", 0.0
            download = method == "GET" and "alt=media" in path
            kind = self._random.choice([kind for kind in RANDOM if download or kind not in ("truncate", "flip")])
            if kind.isdigit():
                self._faults.append(Fault(kind, "", "", STORM - 1, 0.0))
            return kind, self._seconds


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that was killed, or reset by us, is what this is about.
        if not isinstance(sys.exception(), (OSError, http.client.HTTPException)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection(self.server.proxy.upstream)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def log_message(self, *arguments: object) -> None: ...

    def _serve(self) -> None:
        kind, seconds = self.server.proxy.choose(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if kind in ("refuse", "reset_request"):
            self.rfile.read(length // 2 if kind == "reset_request" else 0)
            self._reset()
            return
        body = self.rfile.read(length)
        if kind.isdigit():
            said = {"error": {"code": int(kind), "message": FAULTS[kind]}}
            self._answer(int(kind), "", [("Content-Type", "application/json")], json.dumps(said).encode())
            return
        if kind == "delay":
            time.sleep(seconds)
        if kind == "flip_request":
            body = _flipped(body)
        status, reason, headers, content = self._forward(body)
        if kind == "lost":
            self._reset()
        elif kind == "reset_answer":
            self._answer(status, reason, headers, content, part=len(content) // 2)
            self._reset()
        elif kind == "truncate":
            self._answer(status, reason, headers, content[: len(content) // 2])
        elif kind == "flip":
            self._answer(status, reason, headers, _flipped(content))
        else:
            self._answer(status, reason, headers, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        self._upstream.request(self.command, self.path, body, headers)
        answer = self._upstream.getresponse()
        content = answer.read()
        ours = urlsplit(self.server.proxy.url).netloc
        # The address of an upload's session is an absolute one; it, too, shall lead through here.
        kept = [
            (name, value.replace(self.server.proxy.upstream, ours) if name.lower() == "location" else value)
            for name, value in answer.getheaders()
            if name.lower() not in ("content-length", "transfer-encoding", "connection")
        ]
        return answer.status, answer.reason, kept, content

    def _answer(
        self, status: int, reason: str, headers: list[tuple[str, str]], content: bytes, part: int | None = None
    ) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:part])

    def _reset(self) -> None:
        """Resets the connection of the client."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.rfile.close()


def _flipped(content: bytes) -> bytes:
    """Data with one bit of the middle byte flipped."""
    damaged = bytearray(content)
    if damaged:
        damaged[len(damaged) // 2] ^= 0x10
    return bytes(damaged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options: list[tuple[str, Callable[[str], object], object]] = [
        ("--upstream", str, None), ("--port", int, 0), ("--seed", int, 0), ("--rate", float, 0.05), ("--seconds", float, 2.0),
    ]  # fmt: skip
    for name, kind, default in options:
        parser.add_argument(name, type=kind, default=default, required=default is None)
    proxy = FaultProxy(**vars(parser.parse_args()))
    print(proxy.url, flush=True)
    proxy.join()


if __name__ == "__main__":
    main()
