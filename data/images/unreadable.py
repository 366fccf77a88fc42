"""Images that cannot be read: the policy of a run, and a list of them. Imports no TensorFlow."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from convoy import exits

POLICIES = ("fail", "skip", "substitute")
TRIES = 16  # examples that are tried in search of a substitute


class BadImages:
    """The policy and the bad files of one data set. Every bad file of a split counts once. Thread-safe.

    Args:
      policy: --bad_images. fail: the first one ends the run. skip: it does not count. substitute: in training another example
        takes its place; in evaluation it does not count, since a test measures what is there.
      max_fraction: --max_bad_fraction, the share of a split's files that may be bad.
      named: what stands before the name of one in a sentence.
      remedy: what mends them, as an imperative.
    """

    def __init__(
        self,
        policy: str = "fail",
        max_fraction: float = 0.01,
        named: str = "the image ",
        remedy: str = "replace or remove such files",
    ):
        self.policy, self.max_fraction, self.named, self.remedy = policy, max_fraction, named, remedy
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        self._reasons: dict[tuple[str, str], str] = {}  # (split, path) -> why
        self._listed: set[tuple[str, str]] = set()
        self._write: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return len(self._reasons.keys() | self._listed)

    def __contains__(self, split_and_path: tuple[str, str]) -> bool:
        return split_and_path in self._reasons

    def reason(self, split: str, path: str) -> str:
        """Why a file is bad; empty for one that is not known to be."""
        return self._reasons.get((split, path), "")

    def expect(self, split: str, files: int) -> None:
        """How many files a split has."""
        self._files[split] = files

    def add(self, split: str, path: str, reason: str) -> None:
        """`reason` follows the path in a sentence: cannot be read: ..."""
        with self._lock:
            if (split, path) not in self._reasons:
                self._reasons[split, path] = reason
                self._list()

    def verdict(self) -> str:
        """Why the run must end, as a sentence; empty if it may go on."""
        with self._lock:
            counts = Counter(split for split, _ in self._reasons)
            for (split, path), reason in self._reasons.items():
                if self.policy == "fail":
                    return f"{self.named}{path} {reason}; {self.remedy}, or train with --bad_images=skip."
                if counts[split] > self.max_fraction * self._files[split]:
                    be = "is" if counts[split] == 1 else "are"
                    return (
                        f"{counts[split]:,} of {self._files[split]:,} images of the split {split} {be} bad, more than"
                        f" --max_bad_fraction={self.max_fraction:g}: {path} {reason}; {self.remedy}, or raise that fraction."
                    )
        return ""

    def check(self) -> None:
        """BadData if the run must end."""
        if sentence := self.verdict():
            raise exits.BadData(sentence)

    def list_in(self, write: Callable[[str], None], before: Iterable[Mapping[str, str]]) -> None:
        """From now on each bad file is given to `write` as a line of JSON, but for those that were given `before`, parsed."""
        with self._lock:
            self._listed |= {(listed["split"], listed["path"]) for listed in before}
            self._write = write
            self._list()

    def _list(self) -> None:
        if self._write:
            for split, path in [file for file in self._reasons if file not in self._listed]:
                self._listed.add((split, path))
                line = {"path": path, "split": split, "reason": self._reasons[split, path]}
                self._write(json.dumps(line) + "\n")
