"""The store of a process that has nothing to write: of several that share a run, all but the leading one."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path

from convoy.store import Data


class NowhereStore:
    """Empty, and forgets what it is given. See convoy.store.Store."""

    url = ""

    def put(self, name: str, data: Data) -> int:
        return 0

    def claim(self, name: str, data: Data) -> bool:
        return True

    def get(self, name: str, generation: int = 0) -> bytes:
        raise FileNotFoundError(name)

    def fetch(self, name: str, path: Path, generation: int = 0) -> None:
        raise FileNotFoundError(name)

    def append(self, name: str, text: str) -> None: ...

    def rewrite(self, name: str, text: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def names(self, prefix: str = "") -> list[str]:
        return []

    def remove(self, prefix: str) -> None: ...

    def sweep(self) -> None: ...

    def foreign(self) -> str:
        return ""

    def locked(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()
