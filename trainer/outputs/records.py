"""What a run wrote down, read again: metrics.jsonl, events.jsonl and bad_images.jsonl. Imports nothing heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from convoy import exits, shapes
from convoy.outside import Name, parse_json
from convoy.shapes import AnyFloat, Shape
from convoy.store import Store
from convoy.trainer.outputs import goodput
from convoy.trainer.run_dir.files import BAD_IMAGES, EVENTS, METRICS

MAX_ATTEMPTS = 1_000_000_000
_NUMBERS = ("loss", "accuracy", "learning_rate", "images_per_second", "noise_scale")
_RECORD = {"step": int, "epoch": float, "split": str, **{f"{name}?": (AnyFloat, None) for name in _NUMBERS}}
_EVENT = {"event": str, "attempt": int, "time": float}
_BAD_IMAGE = {"split": str, "path": str}
JOURNAL_BYTES = 1 << 30  # a record takes some 150: millions of evaluations


def read_metrics(store: Store, limit: int | None = None) -> list[dict[str, Any]]:
    """Every record of a run, or the first `limit`, in order; exits.BadData for a line that is no record."""
    records = []
    for number, line in enumerate(lines(store, METRICS)[:limit], 1):
        place = f"{store.url}/{METRICS}, line {number},"
        with _mendable(METRICS):
            records.append(shapes.check(parse_json(line, place, finite=False), _RECORD, place))
    return records


def read_events(store: Store) -> list[dict[str, Any]]:
    """Every event of a run, in order; a line that a crash cut short is left out."""
    events = _journal(store, EVENTS, _EVENT)
    for event in events:
        with _mendable(EVENTS):
            shapes.check(event, goodput.SHAPES.get(event["event"], {}), f"{store.url}/{EVENTS}: {event['event']}")
    return events


def read_bad_images(store: Store) -> list[dict[str, Any]]:
    """What convoy.data.images.unreadable wrote before; a line that a crash cut short is left out."""
    return _journal(store, BAD_IMAGES, _BAD_IMAGE)


def check(store: Store, count: int) -> None:
    """exits.BadData if a run of `count` records cannot go on with what it left: before its first step, not after its last."""
    read_metrics(store, count)
    read_events(store)
    read_bad_images(store)


def attempts(store: Store) -> int:
    """The largest number of an attempt that any event has; 0 for none."""
    return max((line["attempt"] for line in read_events(store)), default=0)


def _journal(store: Store, name: Name, shape: Shape) -> list[dict[str, Any]]:
    """The lines of a file that is appended to at any time, so that a crash may cut one short."""
    entries = []
    for number, line in enumerate(lines(store, name), 1):
        place = f"{store.url}/{name}, line {number},"
        try:
            value = parse_json(line, place, finite=False)
        except exits.BadData:
            continue
        with _mendable(name):
            entries.append(shapes.check(value, shape, place))
    return entries


@contextlib.contextmanager
def _mendable(name: Name) -> Iterator[None]:
    try:
        yield
    except exits.BadData as error:
        raise exits.BadData(
            f"{str(error).rstrip('.')}. Remove the line, or {name}: the run goes on without it."
        ) from error


def lines(store: Store, name: Name) -> list[str]:
    """The lines of a file, as text; none where there is no file."""
    try:
        text = store.get(name, max_bytes=JOURNAL_BYTES).decode()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise exits.BadData(
            f"{store.url}/{name} is no text in UTF-8 ({error.reason} at byte {error.start}); remove it: the run goes on"
            " without it."
        ) from error
    return text.removesuffix("\n").split("\n") if text else []


def flat(line: str) -> Any:
    """A record as JSON without nesting; any other line, for example one that a crash cut short, stays text."""
    try:
        value = parse_json(line, METRICS, finite=False)
    except exits.BadData:
        return line
    is_flat = isinstance(value, dict) and not any(isinstance(item, dict | list) for item in value.values())
    return value if is_flat else line
