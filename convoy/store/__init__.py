"""Where runs keep their objects: one small interface before a local folder or a bucket."""

from __future__ import annotations

from convoy import exits
from convoy.store.protocol import Data, Store

__all__ = ["Data", "Store", "open_store"]


def open_store(url: str, flag: str = "run_dir") -> Store:
    """The store of a run directory: a local path, or gs://BUCKET/PATH, which a person gave as --`flag`."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        from convoy.store.local import LocalStore

        return LocalStore(url, flag)
    if scheme == "gs":
        from convoy.store.gcs import GcsStore

        return GcsStore(url)
    raise exits.CannotRun(
        f"{url}: {scheme}:// is no place that Convoy can write; give a local path or gs://BUCKET/PATH."
    )
