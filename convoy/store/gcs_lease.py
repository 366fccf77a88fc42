"""One writer in a place that knows no locks: an object that its holder keeps replacing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from convoy import exits
from convoy.outside import parse_object, printable
from convoy.store.gcs_bucket import Bucket
from convoy.store.gcs_errors import Transient

_BYTES = 1 << 16  # more than any lease has
LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
LOOK_SECONDS = 1.0


class Lease:
    """The right to write in a run directory.

    Its holder replaces the object every RENEW_SECONDS, which changes its generation. Whoever wants it watches: an object
    that stays the same for LEASE_SECONDS has lost its holder, and replacing exactly that generation takes it over, which
    only one can do. No two clocks are compared.

    The holder may have been stopped for so long that it was taken over, and not know it yet. `check`, called before
    whatever is written, therefore renews by itself when the last renewal is not recent by this process's own clock.

    Args:
      name: the object.
      place: the run directory, for sentences.
    """

    def __init__(self, bucket: Bucket, name: str, place: str):
        self._bucket, self._name, self._place = bucket, name, place
        # The parent of a run names the writer, so that a child started again need not wait for the one that died.
        self._writer = os.environ.get("CONVOY_WRITER") or uuid.uuid4().hex
        self._process = uuid.uuid4().hex
        self._renewals = 0
        self._generation = 0
        self._renewed = 0.0
        self._held = self._lost = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, this process is the only writer. Raises CannotRun if another one is."""
        self._take()
        leaving = threading.Event()
        thread = threading.Thread(target=self._keep, args=(leaving,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            leaving.set()
            thread.join(RENEW_SECONDS)
            self._held = False
            if not self._lost:
                # One that cannot be removed now runs out by itself.
                with contextlib.suppress(exits.ConvoyError):
                    self._bucket.release(self._name, self._generation, seconds=RENEW_SECONDS)

    def check(self) -> None:
        """Raises CannotRun if another process has taken over, as far as it takes no longer than one renewal to know.

        A renewal that does not succeed now is Transient: the request that waits for it may be tried again.
        """
        if self._held and not self._lost and time.monotonic() - self._renewed > LEASE_SECONDS * 2 / 3:
            try:
                self._renew()
            except exits.TryAgain as error:
                raise Transient("the right to write there could not be renewed") from error
        self.require()

    def require(self) -> None:
        """Raises CannotRun if it is known that another process has taken over."""
        if self._held and self._lost:
            raise exits.CannotRun(
                f"--run_dir={self._place}: another process has taken over this run directory, because this one had not"
                " been heard of; what it writes is left alone. Stop one of them."
            )

    def _take(self) -> None:
        match, seen, since, warned = 0, 0, 0.0, False
        while not self._replace(match, None):
            match = 0
            try:
                data, generation = self._bucket.download(self._name, max_bytes=_BYTES)
            except FileNotFoundError:
                continue  # its holder has left just now
            holder = _parsed(data)
            if holder.get("writer") == self._writer:
                match = generation
                continue
            now = time.monotonic()
            if seen and generation != seen:
                raise exits.CannotRun(
                    f"--run_dir={self._place}: another process is training there now; wait for it, stop it,"
                    " or choose another directory."
                )
            if not seen:
                seen, since = generation, now
            elif now - since >= LEASE_SECONDS:
                match = generation
                continue
            if not warned:
                warned = True
                print(
                    f"convoy: {self._place} is held by process {holder.get('pid', '?')} on {holder.get('host', '?')};"
                    f" watching for {LEASE_SECONDS:.0f} s whether that is alive.",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(LOOK_SECONDS)
        self._held, self._lost = True, False

    def _keep(self, leaving: threading.Event) -> None:
        while not leaving.wait(RENEW_SECONDS) and not self._lost:
            # A storage that is away for a while is no reason to stop: nothing can be written meanwhile, by nobody.
            with contextlib.suppress(exits.ConvoyError):
                self._renew()

    def _renew(self) -> None:
        with self._lock:
            if self._lost or time.monotonic() - self._renewed < RENEW_SECONDS / 2:
                return  # another thread was here just now
            if self._replace(self._generation, RENEW_SECONDS):
                return
            try:
                data, generation = self._bucket.download(self._name, seconds=RENEW_SECONDS, max_bytes=_BYTES)
            except FileNotFoundError:
                generation = 0
            # The last renewal may have been carried out although its answer never came.
            ours = generation and _parsed(data).get("process") == self._process
            self._lost = not (ours and self._replace(generation, RENEW_SECONDS))

    def _replace(self, match: int, seconds: float | None) -> bool:
        """Writes the object over one generation. Every text is another one, so an equal object is our own."""
        self._renewals += 1
        text = json.dumps(
            {
                "writer": self._writer,
                "process": self._process,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "renewals": self._renewals,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )
        before = time.monotonic()
        generation = self._bucket.upload(self._name, text.encode(), match, guarded=False, seconds=seconds)
        if generation:
            self._generation, self._renewed = generation, before
        return bool(generation)


def _parsed(data: bytes) -> dict[str, str]:
    try:
        record = parse_object(data, "")
    except exits.BadData:
        return {}
    return {name: printable(str(value)) for name, value in record.items()}
