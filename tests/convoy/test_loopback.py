"""The server of a verb's own page: who reaches it, what it reads, and what it says."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import time

import pytest

from convoy import exits, loopback
from support import serving

MAX_BYTES = 1000


def shown(pages):
    server = loopback.Server(0)
    return serving(server, server.serve, pages, MAX_BYTES)


def echo(body: loopback.Body) -> loopback.Answer:
    content = io.BytesIO()
    body.copy_to(content)
    return loopback.Answer(content.getvalue(), "application/octet-stream")


@pytest.fixture(scope="module")
def server():
    """A page, one that echoes what is posted, and pages that fail."""

    def refuses(body):
        raise exits.CannotRun("the disk is full\x1b; make room.")

    def fails(body):
        raise RuntimeError("a bug\x1b")

    pages = {("GET", "/"): lambda body: loopback.Answer(b"<p>", "text/html", policy="default-src 'self'", refresh=7)}
    with shown({**pages, ("POST", "/echo"): echo, ("GET", "/refuses"): refuses, ("GET", "/fails"): fails}) as server:
        yield server


class Response:
    def __init__(self, response: http.client.HTTPResponse):
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def ask(server, method="GET", path="/", body=None, hosts=None, **headers) -> Response:
    """What the server answers; `hosts`: the Host headers, the right one by default."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        for host in [f"127.0.0.1:{server.port}"] if hosts is None else hosts:
            connection.putheader("Host", host)
        if body is not None and "Content_Length" not in headers:
            headers["Content_Length"] = len(body)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), str(value))
        connection.endheaders(body)
        return Response(connection.getresponse())


def test_a_page_and_what_stands_before_it(server, capfd):
    for response in (ask(server), ask(server, hosts=[f"LocalHost:{server.port}"])):
        assert (response.status, response.body) == (200, b"<p>")
        for name, value in {
            "Content-Type": "text/html", "Content-Security-Policy": "default-src 'self'", "Refresh": "7",
            "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
        }.items():  # fmt: skip
            assert response.headers[name] == value
        assert "Python" not in str(response.headers)
    assert ask(server, "POST", "/echo", b"x" * MAX_BYTES).body == b"x" * MAX_BYTES
    assert capfd.readouterr() == ("", ""), "no request is logged"


@pytest.mark.parametrize(
    "hosts",
    [[], ["evil.example"], ["evil.example:{port}"], ["127.0.0.1"], ["127.0.0.1:1"], ["127.0.0.1:{port}", "evil.example"]],
)  # fmt: skip
def test_another_name_is_refused_whatever_leads_here(server, hosts):
    hosts = [host.format(port=server.port) for host in hosts]
    for response in (ask(server, hosts=hosts), ask(server, "POST", "/echo", b"x", hosts=hosts)):
        assert response.status == 403
        assert f"http://127.0.0.1:{server.port}/".encode() in response.body
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_pages_of_other_origins_may_not_post(server):
    own = f"127.0.0.1:{server.port}"
    for origin in ("http://evil.example", "null", f"https://{own}", "http://127.0.0.1:1", f"http://{own}.evil.example"):
        response = ask(server, "POST", "/echo", b"x", Origin=origin)
        assert (response.status, b"another origin" in response.body) == (403, True), origin
    for origin in (f"http://{own}", f"http://localhost:{server.port}"):
        assert ask(server, "POST", "/echo", b"x", Origin=origin).body == b"x"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server, monkeypatch):
    for size in (MAX_BYTES + 1, 10**17):
        response = ask(server, "POST", "/echo", Content_Length=size)  # none of it was sent
        assert (response.status, response.body) == (
            413,
            f"This has {size:,} bytes, and 1,000 are the most; send less.\n".encode(),
        )
    # One that comes nevertheless is read for a while, as a connection that is reset would take the answer with it.
    monkeypatch.setattr(loopback, "_DRAINED", 1 << 20)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {1 << 40}\r\n\r\n".encode()
        )
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 28:
                sent += connection.send(bytes(1 << 16))
    assert sent < 1 << 26, "the kernel's buffers, and no more than the bound"


@pytest.mark.parametrize("headers", [{}, {"Content_Length": "-1"}, {"Content_Length": "1_0"}, {"Content_Length": "1" * 19},
                                     {"Content_Length": "3", "Transfer_Encoding": "chunked"}])  # fmt: skip
def test_a_body_says_how_long_it_is(server, headers):
    response = ask(server, "POST", "/echo", **headers)
    assert (response.status, b"Content-Length" in response.body) == (411, True)


@pytest.mark.parametrize("path", ["/../etc/passwd", "/%2e%2e/", "/?", "/echo", "/index.html", "http://127.0.0.1/", "*"])
def test_what_is_no_page_is_nothing(server, path):
    assert ask(server, path=path).status == 404


def test_what_http_itself_refuses(server):
    for method in ("PUT", "HEAD", "OPTIONS", "CONNECT"):
        response = ask(server, method, "/")
        assert response.status == 501
        assert response.headers["Content-Type"].startswith("text/plain")
    for text in (b"<script>\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET /" + b"x" * 70_000):
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            assert b"<script>" not in connection.makefile("rb").read()
    assert ask(server).status == 200


def test_a_sentence_for_what_is_understood_and_a_traceback_for_a_bug(server, capfd):
    response = ask(server, path="/refuses")
    assert (response.status, response.body) == (500, b"the disk is full\\x1b; make room.\n")
    assert capfd.readouterr().err == ""
    response = ask(server, path="/fails")
    assert (response.status, b"a bug" in response.body) == (500, False)
    assert "RuntimeError: a bug\\x1b" in capfd.readouterr().err
    assert ask(server).status == 200


def test_a_client_that_does_not_go_on_is_left(server, monkeypatch, capfd):
    monkeypatch.setattr(loopback, "SECONDS", 0.3)
    head = f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 500\r\n\r\n".encode()
    for beginning in (b"", b"GET / HT", head):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(beginning)
            connection.settimeout(0.05)
            began = time.monotonic()
            while time.monotonic() - began < 10:  # a byte now and then keeps nothing open
                try:
                    connection.sendall(b"x")
                    if not connection.recv(1):
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            assert time.monotonic() - began < 5
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b"cut short")
    assert ask(server).status == 200
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded(monkeypatch):
    monkeypatch.setattr(loopback, "CONNECTIONS", 2)
    with shown({("GET", "/"): echo}) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as third:
            assert third.recv(1) == b"", "closed at once"
        for connection in idle:
            connection.close()
        began = time.monotonic()
        while time.monotonic() - began < 10:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                assert ask(server).status == 200
                return
    pytest.fail("places are given back")


def test_clients_are_answered_side_by_side():
    both = threading.Barrier(2)

    def page(body: loopback.Body) -> loopback.Answer:
        both.wait(10)
        return loopback.sentence("both are here", 200)

    with shown({("GET", "/"): page}) as server:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(server).status)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [200, 200]


def test_it_listens_on_this_machine_alone_and_a_port_that_is_taken_is_said(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(
        exits.CannotRun, match=f"--port={server.port} cannot be listened on: address already in use; leave"
    ):
        loopback.Server(server.port)
