"""The store of a process that has nothing to write: of several that share a run, all but the leading one."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager


class NowhereStore:
    """Empty, and forgets what it is given. See convoy.store.Store."""

    url = ""

    def put(self, name: str, data: bytes) -> None: ...

    def claim(self, name: str, data: bytes) -> bool:
        return True

    def get(self, name: str) -> bytes:
        raise FileNotFoundError(name)

    def append(self, name: str, text: str) -> None: ...

    def names(self, prefix: str = "") -> list[str]:
        return []

    def remove(self, prefix: str) -> None: ...

    def sweep(self) -> None: ...

    def foreign(self) -> str:
        return ""

    def locked(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()
