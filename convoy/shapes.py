"""Shapes of parsed documents: types and keys, declared as data, and checked before any code reads a value.

- int: 64 bits, not a bool; float: finite, an int is accepted; AnyFloat; Bounds: a number within; str; bool; None
- frozenset: one of these texts
- (A, B): a value of shape A or B
- [A]: a list of A
- {str: A}: an object whose values have shape A
- {"key": A, "key?": B}: an object with these keys; the second may be missing. Other keys are ignored.
"""

from __future__ import annotations

import math
from typing import Any

from convoy import exits
from convoy.bounds import Bounds
from convoy.outside import printable

Shape = Any
_LARGEST = 1e300  # a million of these add up to a number


class AnyFloat:
    """Of a shape: a float that may be NaN or infinite."""


_CALLED = {
    AnyFloat: "a number",
    int: "a whole number of 64 bits",
    float: "a number",
    str: "a text",
    bool: "true or false",
    None: "null",
}


def check(value: Any, shape: Shape, source: str) -> Any:
    """Returns the value if it has the shape; otherwise raises exits.BadData, a sentence that begins with `source`."""
    if wrong := _wrong(value, shape, ""):
        raise exits.BadData(f"{printable(source)} {wrong}; it was damaged, or something else wrote it.")
    return value


def _wrong(value: Any, shape: Shape, where: str) -> str:
    """The first problem, as the rest of a sentence; empty if there is none."""
    if isinstance(shape, tuple):
        problems = [_wrong(value, option, where) for option in shape]
        return problems[0] if all(problems) else ""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _should(value, "a list", where)
        return next(filter(None, (_wrong(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value))), "")
    if isinstance(shape, dict):
        return _wrong_object(value, shape, where)
    return "" if _is(value, shape) else _should(value, _called(shape), where)


def _wrong_object(value: Any, shape: dict[Any, Shape], where: str) -> str:
    if not isinstance(value, dict):
        return _should(value, "an object", where)
    dot = f"{where}." if where else ""
    if str in shape:
        return next(filter(None, (_wrong(item, shape[str], f"{dot}{key}") for key, item in value.items())), "")
    for key, member in shape.items():
        name = key.removesuffix("?")
        if name not in value:
            if name == key:
                return f"has no {dot}{name}"
        elif wrong := _wrong(value[name], member, f"{dot}{name}"):
            return wrong
    return ""


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind is bool
    if isinstance(kind, Bounds):
        return isinstance(value, int if isinstance(kind.high, int) else int | float) and kind.holds(value)
    if isinstance(kind, frozenset):
        return isinstance(value, str) and value in kind
    if kind is AnyFloat and isinstance(value, float) and not math.isfinite(value):
        return True
    if kind in (float, AnyFloat):
        return isinstance(value, int | float) and abs(value) <= _LARGEST
    if kind is int:
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return type(value) is kind


def _called(kind: Any) -> str:
    return f"one of {', '.join(sorted(kind))}" if isinstance(kind, frozenset) else _CALLED.get(kind) or str(kind)


def _should(value: Any, wanted: str, where: str) -> str:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:60]
    return (
        f"has {printable(shown)} {f'as {printable(where)[:100]}' if where else ''}".rstrip()
        + f", which should be {wanted}"
    )
