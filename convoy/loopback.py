"""A web server for this machine alone: the page of one verb, on 127.0.0.1, as long as the verb runs.

Other sites that a person visits must not reach it through the browser. So a request whose Host is another name is refused
(DNS rebinding), and a POST from a page of another origin. Nothing of a request becomes the path of a file: pages stand in a
table by method and path. Sizes, seconds and connections are bounded, and nothing is logged.
"""

from __future__ import annotations

import contextlib
import http
import io
import re
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NamedTuple

from convoy import exits
from convoy.outside import printable

ADDRESS = "127.0.0.1"
SECONDS = 60.0  # in which a request is read, and as many again in which its answer is sent
CONNECTIONS = 32  # at the same time; those beyond are closed
_PIECE = 1 << 16  # bytes of a body that are held
_DRAINED, _DRAIN_SECONDS = 1 << 22, 2.0  # of a refused body: a reset connection would take the answer with it
_LENGTH = re.compile("[0-9]{1,18}")
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Connection", "close"),
)


class Answer(NamedTuple):
    """What a browser gets.

    Attributes:
      body: the content.
      kind: its media type.
      status: of HTTP.
      policy: what the content may load and run (Content-Security-Policy).
      refresh: seconds after which the browser asks again; 0: never.
    """

    body: bytes
    kind: str
    status: int = 200
    policy: str = "default-src 'none'; frame-ancestors 'none'"
    refresh: int = 0


class Body:
    """What a request carries: `length` bytes, which have not been read yet."""

    def __init__(self, stream: io.BufferedIOBase, length: int) -> None:
        self._stream, self.length = stream, length

    def copy_to(self, file: BinaryIO) -> None:
        """Writes all of it into a file, a piece at a time; ConnectionError or TimeoutError where the sender does not go on."""
        remaining = self.length
        while remaining:
            piece = self._stream.read(min(_PIECE, remaining))
            if not piece:
                raise ConnectionError("the body ends early")
            file.write(piece)
            remaining -= len(piece)


Page = Callable[[Body], Answer]


def sentence(text: str, status: int, refresh: int = 0) -> Answer:
    """An answer of plain text."""
    return Answer(f"{printable(text)}\n".encode(), "text/plain; charset=utf-8", status, refresh=refresh)


class Server(ThreadingHTTPServer):
    """Listens at once, so that a port that is taken is known before seconds are spent. Use as a context.

    Args:
      port: 0 takes a free one.

    Raises:
      exits.CannotRun: the port is taken, or not for this user.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.pages: Mapping[tuple[str, str], Page] = {}
        self.max_bytes = 0
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise exits.CannotRun(
                f"--port={port} cannot be listened on: {exits.reason(error)}; leave it out, which takes a free port, or name"
                " another."
            ) from error
        self.port = self.socket.getsockname()[1]
        self.hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        if self.port == 80:  # which browsers leave out
            self.hosts |= {ADDRESS, "localhost"}
        self.url = f"http://{ADDRESS}:{self.port}/"

    def serve(self, pages: Mapping[tuple[str, str], Page], max_bytes: int = 0) -> None:
        """Answers until `shutdown`, or an exception such as KeyboardInterrupt in this thread.

        Args:
          pages: (method, path) -> what answers, in a thread of each request. A ConvoyError that it raises becomes its sentence.
          max_bytes: of the body of a POST. A larger one is refused before it is read.
        """
        self.pages, self.max_bytes = pages, max_bytes
        self.serve_forever(poll_interval=0.1)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the name server for this machine's name

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes, or does not go on, is nobody's error."""
        if not isinstance(sys.exc_info()[1], OSError):
            _show_bug()


def _show_bug() -> None:
    print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr, flush=True)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Timed(self.connection, time.monotonic() + SECONDS))

    def do_GET(self) -> None:
        self._answer(0)

    def do_POST(self) -> None:
        lengths = self.headers.get_all("Content-Length", [])
        if any(o.removeprefix("http://") not in self.server.hosts for o in self.headers.get_all("Origin", [])):
            self._refuse("This comes from a page of another origin, and is refused.", 403)
        elif len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]) or "Transfer-Encoding" in self.headers:
            self._refuse("Content-Length is missing or no number; say how long the body is.", 411)
        elif (length := int(lengths[0])) > self.server.max_bytes:
            self._refuse(f"This has {length:,} bytes, and {self.server.max_bytes:,} are the most; send less.", 413)
        else:
            self._answer(length)

    def _answer(self, length: int) -> None:
        hosts = self.headers.get_all("Host", [])
        page = self.server.pages.get((self.command, self.path))
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._refuse(f"This is {self.server.url} and answers to no other name; open that.", 403)
        elif page is None:
            self._refuse("There is no such page here; open the address that Convoy printed.", 404)
        else:
            self._send(self._call(page, Body(self.rfile, length)))

    @staticmethod
    def _call(page: Page, body: Body) -> Answer:
        try:
            return page(body)
        except exits.ConvoyError as error:
            return sentence(str(error), 500)
        except (ConnectionError, TimeoutError):  # of the body
            raise
        except Exception:
            _show_bug()
            return sentence("Convoy has failed here; where it was started stands why.", 500)

    def _send(self, answer: Answer) -> None:
        self.connection.settimeout(SECONDS)
        self.send_response(answer.status)
        for name, value in _HEADERS:
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", answer.policy)
        if answer.refresh:
            self.send_header("Refresh", str(answer.refresh))
        self.end_headers()
        self.wfile.write(answer.body)

    def _refuse(self, text: str, status: int) -> None:
        """Answers, and reads what is on its way of a body that nobody wants, up to a bound."""
        self._send(sentence(text, status))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            remaining = _Timed(self.connection, time.monotonic() + _DRAIN_SECONDS)
            for _ in range(_DRAINED // _PIECE):
                if not remaining.read(_PIECE):
                    break

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself: another method, or what is no HTTP."""
        self._send(sentence(f"{http.HTTPStatus(code).phrase}.", code))

    def version_string(self) -> str:
        return "convoy"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Timed(io.RawIOBase):
    """Bytes of a connection up to a point in time, however slowly they come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining)
        return self._connection.recv_into(buffer)
