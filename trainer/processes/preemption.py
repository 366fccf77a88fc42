"""Notices of Google's metadata server: this machine is about to be preempted, or stopped for maintenance of its host.

A notice may come a minute before the SIGTERM of a cluster, and where no cluster passes it on it is all that comes. The server
is asked to answer when a value changes, so that waiting costs an open connection and no polling.

TensorFlow reads the same server, but not for us: PreemptionCheckpointHandler asks every second, only for maintenance and not
for preemption, and saves and exits (143) in its own ways; PreemptionWatcher waits on Google's internal TPU hosts alone; under
JAX there is neither.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

_LEAVE = {
    "instance/preempted": "TRUE",
    # MIGRATE_ON_HOST_MAINTENANCE is no reason to leave: the machine moves with all that runs on it. What cannot move, a
    # machine with accelerators, is terminated.
    "instance/maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
}
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_ANSWER_SECONDS = 30  # after which the server repeats what is known, so that a dead connection is noticed
_MARGIN_SECONDS = 10  # for that answer to arrive
# Between two questions: short after an answer, in case a server does not wait for changes; growing while there is none.
# The longest is well within the 30 s that a preempted machine has left.
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 1.0, 10.0


def server(environment: Mapping[str, str] = os.environ, product: Path = _PRODUCT) -> str:
    """host[:port] of the metadata server; empty where there is none.

    GCE_METADATA_HOST (Google's client libraries) and GCE_METADATA_IP (TensorFlow) name it; else it is where machines of
    Google's have it.
    """
    if named := environment.get("GCE_METADATA_HOST") or environment.get("GCE_METADATA_IP"):
        return named
    try:
        return "metadata.google.internal" if product.read_text().startswith("Google") else ""
    except OSError:
        return ""


def watch(on_notice: Callable[[str], None]) -> None:
    """Starts threads that call `on_notice` with each notice, "instance/preempted=TRUE"; none where there is no server."""
    if host := server():
        for key in _LEAVE:
            threading.Thread(target=_wait, args=(host, key, on_notice), name=key, daemon=True).start()


def _wait(host: str, key: str, on_notice: Callable[[str], None]) -> None:
    # Through no proxy: the server is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    etag = "0"  # no value has it, so the first answer comes at once
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            value, etag = _ask(opener, host, key, etag)
        except (OSError, http.client.HTTPException, ValueError):
            # Refused, cut, 404, no answer: a run does not depend on it.
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)
            continue
        if value == _LEAVE[key]:
            on_notice(f"{key}={value}")
            return
        pause = _FIRST_PAUSE_SECONDS
        time.sleep(pause)


def _ask(opener: urllib.request.OpenerDirector, host: str, key: str, etag: str) -> tuple[str, str]:
    """(value, its etag), as soon as the etag is no longer `etag`, else after _ANSWER_SECONDS."""
    query = urllib.parse.urlencode({"wait_for_change": "true", "last_etag": etag, "timeout_sec": _ANSWER_SECONDS})
    url = f"http://{host}/computeMetadata/v1/{key}?{query}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    with opener.open(request, timeout=_ANSWER_SECONDS + _MARGIN_SECONDS) as answer:
        return answer.read(100).decode().strip(), answer.headers.get("ETag", etag)
