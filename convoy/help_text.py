"""What --help prints: all flags of a verb by group, or with --help=TEXT those that a text is about."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from typing import Any

from convoy import elsewhere, exits, options
from convoy.table import near

_ASKED = re.compile(r"-h|--?help(?:full)?(?:=(.*))?", re.DOTALL)
_MARGIN = 23


def wanted(argv: list[str]) -> str | None:
    """TEXT of --help=TEXT, "" for --help, None where no help is asked for."""
    asked = (match for word in argv if (match := _ASKED.fullmatch(word)))
    return next((match[1] or "" for match in asked), None)


def of_verb(usage: str, *classes: type) -> str:
    """The whole --help of a verb: flags by group, each with its default."""
    groups: dict[str, list[dataclasses.Field[Any]]] = {}
    for field in options.fields(*classes):
        groups.setdefault(field.metadata["group"], []).append(field)
    lines = [usage]
    for group, members in groups.items():
        lines += [f"\n{group}", *map(_described, members)]
    lines += ["", _entry("flagfile=FILE", "read flags from a file, one a line; flags after it win")]
    lines.append(_entry("help=TEXT", "only the flags with this text in their name, or else in their help"))
    return "\n".join(lines)


def about(text: str, *classes: type) -> str:
    """The flags with a text in their name, or that others call so, or else with the text in their help; UsageError for none."""
    every = options.fields(*classes)
    names, name = [field.name for field in every], text.strip("-").replace("-", "_").lower()
    row = elsewhere.find(name, names)
    matching = [field for field in every if name in field.name or (row and field.name == row.flag)]
    matching = matching or [field for field in every if text.lower() in _help(field).lower()]
    if not matching:
        hint = near(name, names, "--help lists the flags there are.", form="--{}")
        raise exits.UsageError(f"--help={options.shortened(text)}: no flag has that in its name or its help; {hint}")
    return "\n".join(map(_described, matching))


def _described(field: dataclasses.Field[Any]) -> str:
    default = "" if field.default in (None, "") else f" [{_shown(field.default)}]"
    return _entry(field.name, _help(field) + default)


def _entry(name: str, text: str) -> str:
    width = min(max(shutil.get_terminal_size().columns, 60), 100) - _MARGIN
    first, *others = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return "\n".join([f"  --{name:<18} {first}", *(" " * _MARGIN + line for line in others)])


def _help(field: dataclasses.Field[Any]) -> str:
    help = field.metadata["help"]
    return help if isinstance(help, str) else help()


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
