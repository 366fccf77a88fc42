"""The page of a run that goes on, for a browser that asks for it again and again."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time

from convoy import exits
from convoy.loopback import Answer, Body, Server, sentence
from convoy.outside import Name
from convoy.store import Store
from convoy.trainer.outputs.records import JOURNAL_BYTES
from convoy.trainer.report import page
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.files import CONFIG, EVENTS, METRICS, RESULT

REFRESH_SECONDS = 5  # after which a browser asks again
_LOOK_SECONDS = 1.0  # between two looks at the run's files, however many browsers ask
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"


def watch(store: Store, run_dir: str, port: int) -> None:
    """Shows the page of a run on 127.0.0.1 until Ctrl-C, and writes nothing; exits.CannotRun for a port that is taken."""
    with Server(port) as server:
        print(f"{server.url} shows {run_dir} as it goes on; Ctrl-C ends that.", flush=True)
        server.serve({("GET", "/"): WatchedPage(store, run_dir)})


class WatchedPage:
    """Answers with the run's page, which is made anew when one of the run's documents has changed."""

    def __init__(self, store: Store, run_dir: str) -> None:
        self._store, self._run_dir = store, run_dir
        self._lock = threading.Lock()
        self._state, self._answer, self._next_look = b"", sentence("", 503), 0.0

    def __call__(self, body: Body) -> Answer:
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + _LOOK_SECONDS
            return self._answer

    def _look(self) -> None:
        try:
            state = b"".join(map(self._digest, (CONFIG, METRICS, EVENTS, RESULT)))
            if state != self._state:
                config = opening.trained_config(self._store, self._run_dir).unchecked
                content = page.page(self._store, dataclasses.replace(config, run_dir=self._run_dir))
                self._answer = Answer(content, "text/html; charset=utf-8", policy=_POLICY, refresh=REFRESH_SECONDS)
                self._state = state
        except exits.ConvoyError as error:  # a line that is being written, or storage that is away: it may pass
            self._state, self._answer = b"", sentence(str(error), 503, REFRESH_SECONDS)

    def _digest(self, name: Name) -> bytes:
        try:
            return hashlib.blake2b(self._store.get(name, max_bytes=JOURNAL_BYTES), digest_size=16).digest()
        except FileNotFoundError:
            return bytes(16)
