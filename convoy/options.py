"""Flags from dataclasses: one field is one flag, its default and its help stand in one place.

A main declares its fields with `option`, defines them on an `absl.flags.FlagValues` of its own and builds the frozen
dataclass back from it. Nothing below a main ever sees a flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from convoy import exits


def option(default: Any, help: str, *, group: str, choices: Iterable[str] | None = None) -> Any:
    """A dataclass field that is also a flag; the flag's type is the type of `default` (None: a float or nothing)."""
    return dataclasses.field(
        default=default, metadata={"help": help, "group": group, "choices": tuple(choices) if choices else None}
    )


def fields(*classes: type) -> list[dataclasses.Field[Any]]:
    """The flag fields of the classes, in their order."""
    return [field for cls in classes for field in dataclasses.fields(cls) if "help" in field.metadata]


def parse(argv: list[str], *classes: type) -> dict[str, Any]:
    """argv (without the program's name) -> a value for every flag of the classes; --flagfile is understood.

    Raises exits.UsageError, a sentence, for an unknown flag, a value of the wrong type and a positional argument.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    flags.DEFINE_string("undefok", "", "", flag_values=values)
    for field in fields(*classes):
        _define(field, values)
    try:
        # absl takes flagfiles relative to the current directory and refuses circular ones by itself.
        rest = values(["convoy", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        names = [field.name for field in fields(*classes)]
        near = difflib.get_close_matches(error.flagname, names, n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags there are."
        raise exits.UsageError(f"there is no flag --{error.flagname}; {hint}") from None
    except flags.CantOpenFlagFileError as error:
        raise exits.UsageError(f"--flagfile cannot be read: {str(error).partition('flagfile: ')[2]}.") from None
    except UnicodeDecodeError as error:
        raise exits.UsageError(f"--flagfile is not a text in UTF-8 ({error.reason} at byte {error.start}).") from None
    except flags.Error as error:
        # absl names flag, value and what it should be.
        raise exits.UsageError(str(error).removeprefix("flag ").rstrip(".") + ".") from None
    if rest:
        raise exits.UsageError(f"`{rest[0]}` is not a flag; every setting is written --name=value.")
    return {field.name: values[field.name].value for field in fields(*classes)}


def take(cls: type, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `parsed` that belongs to one class, as keyword arguments."""
    return {field.name: parsed[field.name] for field in fields(cls)}


def to_flags(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """(name, value) -> the flag lines that say it; None is left out."""
    lines = []
    for name, value in pairs:
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        elif value is not None:
            lines.append(f"--{name}={value}")
    return lines


def help_text(usage: str, *classes: type) -> str:
    """The whole --help of a verb: flags by group, each with its default."""
    groups: dict[str, list[dataclasses.Field[Any]]] = {}
    for field in fields(*classes):
        groups.setdefault(field.metadata["group"], []).append(field)
    width = min(max(shutil.get_terminal_size().columns, 60), 100) - 23
    parts = [usage]
    for group, members in groups.items():
        parts.append(f"\n{group}")
        for field in members:
            default = "" if field.default in (None, "") else f" [{_shown(field.default)}]"
            text = field.metadata["help"] + default
            body = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
            parts.append(f"  --{field.name:<18} {body[0]}")
            parts.extend(f"{'':<23}{line}" for line in body[1:])
    parts.append("\n  --flagfile=FILE      read flags from a file, one a line; flags after it win")
    return "\n".join(parts)


def wants_help(argv: list[str]) -> bool:
    return any(word in ("-h", "-help", "--help", "--helpfull") for word in argv)


def _define(field: dataclasses.Field[Any], values: flags.FlagValues) -> None:
    name, default, help = field.name, field.default, field.metadata["help"]
    if field.metadata["choices"]:
        flags.DEFINE_enum(name, default, list(field.metadata["choices"]), help, flag_values=values)
    elif isinstance(default, bool):
        flags.DEFINE_bool(name, default, help, flag_values=values)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, default, help, flag_values=values)
    elif default is None or isinstance(default, float):
        flags.DEFINE_float(name, default, help, flag_values=values)
    else:
        flags.DEFINE_string(name, default, help, flag_values=values)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
