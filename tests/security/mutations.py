"""Draws from a seed what a stranger may write in the place of a name, a JSON document or a file, for any reader.

for number in range(1000):
    with case(SEED, number) as chance, untouched(tmp_path):
        path.write_bytes(document(right, chance))
        read(path)  # a typed error, or the content before the damage
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SEED = int(os.environ.get("CONVOY_TEST_SEED", "20261201"))
MANY_CASES = 5000  # benchmarks/hostile.py measures these

# Names that lead outside, and values that are no names.
NAMES: list[Any] = [
    "", ".", "..", "/", "../x", "../../x", "a/../../x", "a/..", "./x", "a//x", "a/", "/x", "//x", "~", "~/x", "\\x", "..\\x",
    "C:\\x", "C:x", "a\0x", "a\nx", "\r", "\x1b[2J", "\x9b31m", "\u202ex", "\ud800", "%2e%2e/x", "..%2fx", "gs://bucket/x",
    "file:///x", "x" * 256, "x" * 5000, "x/" * 2000 + "x", "-rf", "$(x)", " ", "con", ".lock", "MANIFEST.json", "/dev/zero",
    "/proc/self/mem", "\uff0e\uff0e/x", "x\u2028", None, True, 0, -1, 1.5, [], ["x"], {}, {"x": "x"},
]  # fmt: skip

# JSON that no document expects, and text that only looks like JSON.
FRAGMENTS = [
    "null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "1e39", "1e308", "1e999", "-1e999", "NaN", "Infinity", "-Infinity",
    "1000000000", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 4000, "1" * 5000,
    '""', '"x"', '"0"', '"1"', '"00000000"', '"x/y"', '"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"../../x"', '"/x"',
    "[]", "[[]]", "[null]", '["x"]', "[1, 2, 3]", "{}", '{"x": 1}', '{"": null}', "[" * 10_000 + "]" * 10_000,
    '{"x": ' * 10_000 + "1" + "}" * 10_000, "[0" + ", 0" * 20_000 + "]", '"' + "x" * 50_000 + '"', "", "undefined", "'x'", "01",
]  # fmt: skip

_HOLE = "\N{OBJECT REPLACEMENT CHARACTER}"


def counts(quick: int, thorough: int = MANY_CASES) -> pytest.MarkDecorator:
    """Parametrizes a test by `count`, the number of cases that it draws in `make test` and in `make test-all`."""
    return pytest.mark.parametrize("count", [quick, pytest.param(thorough, marks=pytest.mark.thorough)])


@contextlib.contextmanager
def case(seed: int, number: int) -> Iterator[random.Random]:
    """Yields the random numbers of a case, a function of (seed, number) alone; a failure inside names both."""
    try:
        yield random.Random(f"{seed} {number}")
    except BaseException as error:
        error.add_note(f"case {number} of CONVOY_TEST_SEED={seed}")
        raise


@contextlib.contextmanager
def untouched(folder: Path, *inside: Path) -> Iterator[None]:
    """Asserts that the block adds, removes and writes nothing in `folder`, except below the folders `inside`."""
    before = _listing(folder, inside)
    yield
    after = _listing(folder, inside)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, f"touched outside: {sorted(map(str, changed))}"


def _listing(folder: Path, inside: tuple[Path, ...]) -> dict[Path, tuple[int, ...]]:
    listing: dict[Path, tuple[int, ...]] = {}
    for entry in os.scandir(folder):
        path = Path(entry)
        if path in inside:
            continue
        status = entry.stat(follow_symlinks=False)
        is_folder = entry.is_dir(follow_symlinks=False)
        # A folder's own time changes with its entries, and these are listed.
        listing[path] = (status.st_ino, status.st_mode) + (() if is_folder else (status.st_size, status.st_mtime_ns))
        if is_folder:
            listing |= _listing(path, inside)
    return listing


def name(chance: random.Random, right: str = "x") -> Any:
    """A name that leads outside, a value that is no name, or `right` with a hostile part."""
    odd = chance.choice(NAMES)
    if not isinstance(odd, str) or chance.random() < 0.5:
        return odd
    return chance.choice(
        [f"{odd}/{right}", f"{right}/{odd}", f"{odd}{right}", f"{right}{odd}", right.upper(), f"{right} "]
    )


def document(right: Any, chance: random.Random) -> bytes:
    """The JSON document of a value with one error, or now and then intact."""
    match chance.randrange(12):
        case 0:
            return torn(_encoded(right), chance)
        case 1:
            return chance.choice(FRAGMENTS).encode()
        case 2:  # not UTF-8, in the middle of it
            data = _encoded(right)
            at = chance.randrange(len(data) + 1)
            return data[:at] + chance.choice([b"\xff", b"\xc3", b"\0", b"\xed\xa0\x80"]) + data[at:]
        case 3:
            encoding = chance.choice(["utf-16", "utf-32", "utf-8-sig", "utf-8"])
            return json.dumps(right).encode(encoding)
        case 4 | 5 | 6:
            return _encoded(_changed_keys(right, chance))
        case _:
            return _encoded(replaced(right, chance.choice(places(right)), _HOLE)).replace(
                json.dumps(_HOLE).encode(), _fragment(chance).encode()
            )


def _fragment(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return json.dumps(name(chance))
    return chance.choice(FRAGMENTS)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The path of keys and indices to every value of a document, its root first."""
    paths: list[tuple[Any, ...]] = [()]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        paths += [(key, *rest) for rest in places(child)]
    return paths


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of a document with another value at a path."""
    if not place:
        return new
    key, *rest = place
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], tuple(rest), new)
    return copy


def at(value: Any, place: tuple[Any, ...]) -> Any:
    """The value at a path of a document."""
    for key in place:
        value = value[key]
    return value


def _changed_keys(right: Any, chance: random.Random) -> Any:
    """Removes, adds or renames a key of one object of a document, or removes or doubles an item of one list."""
    containers = [place for place in places(right) if isinstance(at(right, place), dict | list) and at(right, place)]
    if not containers:
        return right
    place = chance.choice(containers)
    value = at(right, place)
    if isinstance(value, list):
        items = list(value)
        chosen = chance.randrange(len(items))
        items[chosen : chosen + 1] = chance.choice([[], [items[chosen]] * 2, items])
        return replaced(right, place, items)
    key = chance.choice(list(value))
    changed = {k: v for k, v in value.items() if k != key}
    match chance.randrange(3):
        case 0:
            changed[str(name(chance, key))] = value[key]
        case 1:
            changed |= {key: value[key], str(name(chance, key)): value[chance.choice(list(value))]}
    return replaced(right, place, changed)


def torn(data: bytes, chance: random.Random) -> bytes:
    """Bytes with a flipped bit, or with a piece cut off, inserted, zeroed or doubled."""
    if not data:
        return b"\0"
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice([1, 2, 8, 64, len(data)]))
    match chance.randrange(5):
        case 0:
            return data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
        case 1:
            return data[:start]
        case 2:
            return data[:start] + chance.randbytes(chance.choice([1, 4, 100])) + data[start:]
        case 3:
            return data[:start] + bytes(stop - start) + data[stop:]
        case _:
            return data[:stop] + data[start:]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
