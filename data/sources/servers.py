"""Whether the servers of a download answer: asked before a library that would try for minutes. Imports nothing heavy."""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable

from convoy import exits

_SECONDS = 10.0  # for a name to be found and a connection to be made
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable(urls: Iterable[str]) -> str:
    """Why no connection can be made to the first server of these addresses to which there is none, "" if all answer.

    Behind a proxy it is that which has to answer. Addresses that are none of a server are passed over.
    """
    for scheme, host, port in dict.fromkeys(filter(None, map(_server, urls))):
        proxy = urllib.request.getproxies().get(scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            scheme, host, port = _server(proxy) or (scheme, host, port)
        if reason := _refusal(host, port):
            return f"{host} does not answer ({reason})"
    return ""


def _server(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None


def _refusal(host: str, port: int) -> str:
    """Why there is no connection; "" if there is one. In a thread: a resolver that asks in vain takes no timeout."""
    reasons = [f"not within {_SECONDS:g} s"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), _SECONDS).close()
            reasons.append("")
        except OSError as error:
            reasons.append(exits.reason(error))

    thread = threading.Thread(target=connect, name="connect", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return reasons[-1]
