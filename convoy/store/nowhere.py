"""The store of a process that has nothing to write: of several that share a run, all but the leading one."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from pathlib import Path

from convoy.outside import Name
from convoy.store.protocol import Data


class NowhereStore:
    """Empty, and forgets what it is given. See convoy.store.Store."""

    url = ""

    def put(self, name: Name, data: Data) -> int:
        return 0

    def put_if_absent(self, name: Name, data: Data) -> bool:
        return True

    def get(self, name: Name, generation: int = 0, max_bytes: int = 0) -> bytes:
        raise FileNotFoundError(name)

    def download(self, name: Name, path: Path, generation: int = 0, max_bytes: float = math.inf) -> None:
        raise FileNotFoundError(name)

    def get_range(self, name: Name, first: int, size: int) -> bytes:
        raise FileNotFoundError(name)

    def append(self, name: Name, text: str) -> None: ...

    def rewrite(self, name: Name, text: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def list_names(self, prefix: Name | None = None) -> list[Name]:
        return []

    def remove(self, prefix: Name) -> None: ...

    def folder(self, name: Name) -> None: ...

    def remove_partials(self) -> None: ...

    def first_entry(self) -> str:
        return ""

    def locked(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()
