"""A service of --log_to on a thread of its own: no step waits for it, and its errors end nothing but itself."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from convoy.outside import printable
from convoy.trainer.loggers.base import Logger, RunFacts
from convoy.trainer.loggers.names import LOGGERS

Say = Callable[[str], None]  # prints a line for a person

_CONTEXT = ("step", "epoch", "examples", "time", "split")  # of a record; the rest are figures
_FIGURE = re.compile(r"[a-z][a-z0-9_]{0,63}")  # a run directory, and the records in it, may be a stranger's
_SPLITS = ("train", "eval")
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_REASON = 200  # characters


class Sender:
    """Takes records at once, and brings them to the service in their order, each figure of a step once.

    Args:
      name: a row of LOGGERS.
      say: for the person.
    """

    def __init__(self, name: str, say: Say):
        self.name, self._say = name, say
        self._tasks: queue.SimpleQueue[Callable[[Logger], None] | None] = queue.SimpleQueue()
        self._sent = set[tuple[str, int]]()
        self._done = threading.Event()

    def begin(self, facts: RunFacts) -> None:
        """Opens the service's record of this run, while the run goes on."""
        threading.Thread(target=self._work, args=(facts,), name=f"log_to {self.name}", daemon=True).start()

    def record(self, record: Mapping[str, Any]) -> None:
        """Takes a line of metrics.jsonl, from this attempt or from one before."""
        self._put(lambda logger: self._log(logger, record))

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        self._put(lambda logger: logger.finish(step, figures))

    def close(self, code: int) -> None:
        """No record comes any more."""
        self._put(lambda logger: logger.close(code))
        self._put(None)

    def wait(self, seconds: float) -> bool:
        """Whether the service has everything, or was left out, within so many seconds."""
        return self._done.wait(seconds)

    def _put(self, task: Callable[[Logger], None] | None) -> None:
        if not self._done.is_set():
            self._tasks.put(task)

    def _work(self, facts: RunFacts) -> None:
        try:
            logger: Logger = LOGGERS.load(self.name)(facts)
            self._say(f"  logs to {self.name}: {_shown(logger.place)}")
            while task := self._tasks.get():
                task(logger)
        except BaseException as error:  # libraries raise SystemExit too, and a thread ends nothing but itself
            self._say(
                f"  Note: --log_to={self.name} gets nothing more of this attempt: {_reason(error)}. The run goes on, and"
                " metrics.jsonl has every step."
            )
        finally:
            self._done.set()

    def _log(self, logger: Logger, record: Mapping[str, Any]) -> None:
        step, split, seconds = record["step"], record["split"], record.get("time")
        if split not in _SPLITS:
            return
        values = {
            f"{split}/{name}": float(value)
            for name, value in record.items()
            if name not in _CONTEXT and type(value) in (int, float) and _FIGURE.fullmatch(name)
        }
        # After a rollback a step comes again, with other numbers; no service takes back what it was given.
        fresh = {
            name: value
            for name, value in values.items()
            if (name, step) not in self._sent and not logger.has(name, step)
        }
        if fresh:
            logger.log(step, seconds if isinstance(seconds, float) else time.time(), fresh)
            self._sent.update((name, step) for name in fresh)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return _shown(lines[0])[:_REASON].rstrip(".:")


def _shown(text: str) -> str:
    """Text of a library for the screen, without the name and password that an address may have before its host."""
    return printable(_CREDENTIALS.sub("//", text))
