"""Requests to one bucket of Google Cloud Storage: checked by crc32c both ways, tried again, refused in sentences."""

from __future__ import annotations

import inspect
import io
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from requests.adapters import HTTPAdapter

from convoy.store.checksum import crc32c
from convoy.store.gcs_errors import Transient, retry_until, sentence
from convoy.store.gcs_streams import Sink, Source, encoded
from convoy.store.protocol import Data, too_large, too_short

DEADLINE_SECONDS = 60.0  # after which nothing is tried again
TIMEOUT_SECONDS = (5.0, 20.0)  # of one request: until it is connected, and until the next bytes of the answer
# A small object is one request, for which the library copies its bytes three times. A larger one is a session of chunks,
# each of which is tried again by itself and sent as it lies. The library takes one for larger if it is not told the size.
SIMPLE_BYTES = 2 * 2**20
CHUNK_BYTES = 32 * 2**20
SLOWEST_BYTES = 2**19  # a second, at which an upload is slow and not yet stuck
DELETES_AT_ONCE = 16
CONNECTIONS = 64

# Reads an answer in one call; without it the library takes 8 kB at a time, each with Python's lock. Newer versions know it.
_PARAMETERS = inspect.signature(storage.Blob.download_as_bytes).parameters
_AT_ONCE = {name: True for name in ("single_shot_download",) if name in _PARAMETERS}

T = TypeVar("T")


class Bucket:
    """A bucket, whose objects are named in full.

    Every method raises exits.TryAgain or exits.CannotRun when its deadline has passed or the storage refuses.

    Attributes:
      guard: called before each attempt of a request that writes; raises if this process may not.
    """

    def __init__(self, name: str):
        self.name = name
        self.guard: Callable[[], None] = lambda: None
        self._bucket: Any = None
        self._call("read", "", lambda again: self._connect())

    def url(self, name: str) -> str:
        return f"gs://{self.name}/{name}" if name else f"gs://{self.name}"

    def upload(
        self,
        name: str,
        data: Data,
        match: int,
        metadata: Mapping[str, str] | None = None,
        guarded: bool = True,
        seconds: float | None = None,
    ) -> int:
        """Writes an object as a whole, if it is still what the caller knows, and returns its generation.

        Every writing has such a condition: a request that was given up may yet be carried out, after the one that
        was sent in its place, and would give the object a generation that nobody knows.

        Args:
          match: the generation that the object must have now; 0 means that there is none.
          metadata: the object's own, set in the same request.
          seconds: the deadline, DEADLINE_SECONDS if None.

        Returns:
          The generation; 0 if `match` was not met. An object that is there already, byte for byte, was written by an
          earlier attempt whose answer was lost.
        """
        view = memoryview(data).cast("B")
        checksum = encoded(crc32c(view))
        connect, read = TIMEOUT_SECONDS
        # The first limit is also that of sending, as a whole, what one request holds.
        timeout = connect + min(len(view), CHUNK_BYTES) / SLOWEST_BYTES, min(read, seconds or read)

        def attempt(again: Retry) -> int:
            nonlocal match
            if guarded:
                self.guard()
            blob = self._bucket.blob(name, chunk_size=CHUNK_BYTES)
            # Set before the upload it is part of the request, and the server refuses bytes that do not fit.
            blob.crc32c = checksum
            if metadata:
                blob.metadata = dict(metadata)
            try:
                blob.upload_from_file(
                    Source(view, copies=len(view) <= SIMPLE_BYTES),
                    size=None if SIMPLE_BYTES < len(view) < CHUNK_BYTES else len(view),
                    content_type="application/octet-stream",
                    if_generation_match=match,
                    timeout=timeout,
                    checksum=None,
                    retry=again,
                )
            except api.PreconditionFailed:
                return self._equal(name, checksum, view, again)
            except api.NotFound as error:
                self._require(again)
                raise Transient("the upload was forgotten half way") from error
            except api.BadRequest as error:
                if "crc32c" in error.message.lower():
                    raise Transient("it did not arrive whole") from error
                raise
            except GoogleAuthError:
                raise  # some of them are ValueErrors
            except ValueError as error:
                # The server kept only a part of a chunk, where the library cannot go on.
                raise Transient("the upload was cut") from error
            if blob.crc32c != checksum:
                match = int(blob.generation)  # to be replaced, and nothing else
                raise Transient("it did not arrive whole")
            return int(blob.generation)

        return self._call("write", name, attempt, seconds)

    def generation(self, name: str) -> int:
        """That of an object now; 0 if there is none."""
        try:
            return int(self._call("read", name, lambda again: self._head(name, 0, again)).generation)
        except FileNotFoundError:
            return 0

    def download(
        self, name: str, generation: int = 0, seconds: float | None = None, max_bytes: float = math.inf
    ) -> tuple[bytes, int]:
        """An object's bytes, checked, and their generation.

        Args:
          seconds: the deadline, DEADLINE_SECONDS if None.

        Raises:
          FileNotFoundError: there is none, or not of this generation.
          exits.BadData: it has more than `max_bytes`.
        """

        def attempt(again: Retry) -> tuple[bytes, int]:
            blob = self._head(name, generation, again)
            if blob.size > max_bytes:
                raise too_large(self.url(name), int(max_bytes))
            return self._content(blob, again), int(blob.generation)

        return self._call("read", name, attempt, seconds)

    def download_file(self, name: str, path: Path, generation: int = 0, max_bytes: float = math.inf) -> None:
        """Writes an object's bytes, checked, to a local file, which appears when it is whole.

        Raises:
          FileNotFoundError: there is no such object, or not of this generation.
          OSError: the file cannot be written.
          exits.BadData: the object has more than `max_bytes`.
        """
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")

        def attempt(again: Retry) -> None:
            blob = self._head(name, generation, again)
            if blob.size > max_bytes:
                raise too_large(self.url(name), int(max_bytes))
            with partial.open("wb") as file:
                self._copy(blob, file, again)

        try:
            self._call("read", name, attempt)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def download_range(self, name: str, first: int, size: int) -> bytes:
        """Bytes [first, first + size) of an object, in one request, whole but not checked.

        Raises:
          FileNotFoundError: there is no such object.
          exits.BadData: it ends before.
        """

        def attempt(again: Retry) -> bytes:
            try:
                data = self._bucket.blob(name).download_as_bytes(
                    start=first, end=first + size - 1, raw_download=True, checksum=None, timeout=TIMEOUT_SECONDS,
                    retry=again, **_AT_ONCE,
                )  # fmt: skip
            except api.NotFound:
                self._require(again)
                raise FileNotFoundError(self.url(name)) from None
            except api.RequestRangeNotSatisfiable as error:
                raise too_short(self.url(name), first + size) from error
            if len(data) == size:
                return data
            if self._head(name, 0, again).size < first + size:
                raise too_short(self.url(name), first + size)
            raise Transient("it did not arrive whole")

        return self._call("read", name, attempt)

    def gather(self, prefix: str, choose: Callable[[list[Any]], list[Any]], max_bytes: float = math.inf) -> list[bytes]:
        """The bytes of those objects below a prefix that `choose` picks from a listing, in its order.

        One that is removed meanwhile makes it list again, so that the result is of one moment. BadData if they have more
        than `max_bytes` together.
        """

        def attempt(again: Retry) -> list[bytes]:
            chosen = choose(self._list(prefix, again))
            if sum(blob.size for blob in chosen) > max_bytes:
                raise too_large(self.url(prefix), int(max_bytes))
            return [self._content(blob, again) for blob in chosen]

        return self._call("read", prefix, attempt)

    def entries(self, prefix: str, limit: int | None = None) -> list[Any]:
        """All objects, or the first ones, whose names begin so, sorted by name."""
        return self._call("list", prefix, lambda again: self._list(prefix, again, limit))

    def delete(self, generations: Mapping[str, int]) -> None:
        """Removes objects, many at once, each unless it has been replaced. One that is not there is no error.

        Args:
          generations: of each object, by name.
        """

        def remove(name: str) -> None:
            def attempt(again: Retry) -> None:
                self.guard()
                self._delete(name, generations[name], again)

            self._call("remove", name, attempt)

        if generations:
            with ThreadPoolExecutor(min(DELETES_AT_ONCE, len(generations))) as pool:
                list(pool.map(remove, generations))

    def release(self, name: str, generation: int, seconds: float) -> None:
        """Removes one object like `delete`, but whatever the guard says, and within so many seconds."""
        self._call("remove", name, lambda again: self._delete(name, generation, again), seconds)

    def _connect(self) -> None:
        # Credentials come from the environment; with STORAGE_EMULATOR_HOST none are needed. Objects need no project.
        client = storage.Client(project=None)
        # Kept alive are ten connections unless told otherwise, and each one more is complained about on stderr.
        client._http.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
        client._http.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))
        self._bucket = client.bucket(self.name)

    def _call(self, verb: str, name: str, attempt: Callable[[Retry], T], seconds: float | None = None) -> T:
        """Tries until the deadline; `attempt` gets the policy, which shares that deadline, for its single requests."""
        again = retry_until(time.monotonic() + (DEADLINE_SECONDS if seconds is None else seconds))
        try:
            return again(attempt)(again)
        except Exception as error:
            refusal = sentence(error, verb, self.name, self.url(name))
            if refusal is None:
                raise
            raise refusal from error

    def _head(self, name: str, generation: int, again: Retry) -> Any:
        blob = self._bucket.blob(name, generation=generation or None)
        try:
            blob.reload(timeout=TIMEOUT_SECONDS, retry=again)
        except api.NotFound:
            self._require(again)
            raise FileNotFoundError(self.url(name)) from None
        return blob

    def _list(self, prefix: str, again: Retry, limit: int | None = None) -> list[Any]:
        blobs = self._bucket.list_blobs(prefix=prefix, max_results=limit, timeout=TIMEOUT_SECONDS, retry=again)
        return sorted(blobs, key=lambda blob: blob.name)

    def _require(self, again: Retry) -> None:
        """Raises NotFound if it is the bucket that is not there."""
        self._list("", again, 1)

    def _delete(self, name: str, generation: int, again: Retry) -> None:
        try:
            self._bucket.blob(name).delete(if_generation_match=generation, timeout=TIMEOUT_SECONDS, retry=again)
        except api.NotFound:
            self._require(again)
        except api.PreconditionFailed:
            return

    def _content(self, blob: Any, again: Retry) -> bytes:
        buffer = io.BytesIO()
        self._copy(blob, buffer, again)
        return buffer.getvalue()

    def _copy(self, blob: Any, file: IO[bytes], again: Retry) -> None:
        """Reads the one generation that `blob` describes; what arrives is checked against that description."""
        sink = Sink(file)
        try:
            self._bucket.blob(blob.name, generation=blob.generation).download_to_file(
                sink, raw_download=True, checksum=None, timeout=TIMEOUT_SECONDS, retry=again
            )
        except api.NotFound as error:
            self._require(again)
            raise Transient("it was replaced while it was read") from error
        except api.RequestRangeNotSatisfiable as error:
            raise Transient("it did not arrive whole") from error
        if encoded(int.from_bytes(sink.checksum.digest(), "big")) != blob.crc32c:
            raise Transient("it did not arrive whole")

    def _equal(self, name: str, checksum: str, view: memoryview, again: Retry) -> int:
        """The generation of the object if its bytes are these, else 0.

        Where they are too many to be read for that, size and checksum decide.
        """
        try:
            blob = self._head(name, 0, again)
        except FileNotFoundError:
            return 0
        same = blob.crc32c == checksum and blob.size == len(view)
        same = same and (len(view) > SIMPLE_BYTES or self._content(blob, again) == view)
        return int(blob.generation) if same else 0
