"""A store in a bucket of Google Cloud Storage."""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager
from pathlib import Path

from convoy import exits
from convoy.outside import MAX_DOCUMENT_BYTES, Name, name_in
from convoy.store.gcs_bucket import Bucket
from convoy.store.gcs_lease import Lease
from convoy.store.gcs_logs import FOLDER, Logs, split
from convoy.store.protocol import Data

_LOCK = ".lock"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class GcsStore:
    """See convoy.store.Store. Credentials come from the environment; STORAGE_EMULATOR_HOST names an emulator.

    Args:
      url: gs://BUCKET/PATH. Without a path the whole bucket is the run directory.
    """

    def __init__(self, url: str):
        bucket, _, path = url.removeprefix("gs://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise exits.CannotRun(
                f"{url}: {bucket!r} is no name of a bucket (small letters, digits, - _ and .); give gs://BUCKET/PATH."
            )
        path = "/".join(part for part in path.split("/") if part)
        if path:
            name_in(path, "the url")  # a bucket has no folders to climb, but a copy of it on a disk has
        self.url = f"gs://{bucket}/{path}" if path else f"gs://{bucket}"
        self._root = f"{path}/" if path else ""
        self._bucket = Bucket(bucket)
        self._logs = Logs(self._bucket)
        self._lease = Lease(self._bucket, self._root + _LOCK, self.url)
        self._generations: dict[str, int] = {}  # of what `put` wrote
        self._bucket.guard = self._lease.check

    def put(self, name: Name, data: Data) -> int:
        place = self._root + name
        # Mostly it is new, or what this process wrote last; only otherwise is one more request needed.
        match = self._generations.get(place, 0)
        while not (generation := self._bucket.upload(place, data, match)):
            match = self._bucket.generation(place)
        self._generations[place] = generation
        return generation

    def put_if_absent(self, name: Name, data: Data) -> bool:
        return self._bucket.upload(self._root + name, data, match=0) != 0

    def get(self, name: Name, generation: int = 0, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        if generation:
            return self._bucket.download(self._root + name, generation, max_bytes=max_bytes)[0]
        return self._logs.get(self._root + name, max_bytes)

    def download(self, name: Name, path: Path, generation: int = 0, max_bytes: float = math.inf) -> None:
        self._bucket.download_file(self._root + name, path, generation, max_bytes)

    def get_range(self, name: Name, first: int, size: int) -> bytes:
        return self._bucket.download_range(self._root + name, first, size)

    def append(self, name: Name, text: str) -> None:
        self._lease.require()
        self._logs.append(self._root + name, text)

    def rewrite(self, name: Name, text: str) -> None:
        self._logs.rewrite(self._root + name, text.encode())

    def flush(self) -> None:
        self._logs.flush()

    def close(self) -> None:
        self._logs.close(self._root)

    def list_names(self, prefix: Name | None = None) -> list[Name]:
        folder = f"{self._root}{prefix}/" if prefix else self._root
        names = set()
        for blob in self._bucket.entries(folder):
            log = split(blob.name)
            names.add((log[0] if log else blob.name).removeprefix(self._root))
        # A name that ends in / is how the console draws an empty folder.
        return sorted(name_in(name, self.url) for name in names if name != _LOCK and not name.endswith("/") and name)

    def remove(self, prefix: Name) -> None:
        place = self._root + prefix
        self._logs.forget(place)
        # checkpoints/1 is not the beginning of checkpoints/10.
        below = f"{place}/", place + FOLDER
        blobs = [blob for blob in self._bucket.entries(place) if blob.name == place or blob.name.startswith(below)]
        self._bucket.delete({blob.name: blob.generation for blob in blobs})

    def folder(self, name: Name) -> None: ...

    def remove_partials(self) -> None:
        self._logs.remove_partials(self._root)

    def first_entry(self) -> str:
        names = [blob.name.removeprefix(self._root) for blob in self._bucket.entries(self._root, limit=3)]
        # "" is how the console draws an empty folder.
        return next((name.partition("/")[0] for name in names if name not in (_LOCK, "")), "")

    def locked(self) -> AbstractContextManager[None]:
        return self._lease.held()
