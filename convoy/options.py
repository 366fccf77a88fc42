"""Flags from dataclasses: one field is one flag, and declares its default, help, bounds, choices and checks.

A verb declares its fields with `option`; `parse` reads argv and `take` selects the values of one class. Modules below a verb
get the frozen dataclass and never see a flag. `check` validates a dataclass however it was made.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from absl import flags

from convoy import bounds, elsewhere, exits, flagfiles
from convoy.bounds import Bounds
from convoy.outside import printable
from convoy.table import Table, near

_MAX_SHOWN = 60  # characters of a value in a sentence
_INTEGER = re.compile(r"\s*[+-]?(0x[0-9a-f]+|0o[0-7]+|[0-9]+(_[0-9]+)*)\s*", re.IGNORECASE | re.ASCII)
_LISTS = "`convoy train --help` lists the flags there are."
_CONTROL = re.compile(r"[\0-\x08\n-\x1f\x7f-\x9f]")


def option(
    default: Any,
    help: str | Callable[[], str],
    *,
    group: str,
    choices: Collection[str] | None = None,
    within: Bounds | None = None,
    check: Callable[[Any], object] | None = None,
    may_change: bool = False,
    words: Mapping[str, int] = MappingProxyType({}),
) -> Any:
    """A dataclass field that is also a flag; the flag's type is the type of `default` (None: a float or nothing).

    Args:
      help: one text, or a function that makes it when it is asked for.
      group: the heading of --help that it stands under.
      choices: all values that it can have: names, or a Table.
      within: what a number can be, and every number has it.
      check: raises exits.CannotRun for a value that is impossible for another reason.
      may_change: whether a run may have another value when it is continued: it changes neither which examples a step sees
        nor what the step does to them.
      words: what else a number may be written as; their values are possible although they are not `within`.
    """
    is_number = default is None or type(default) in (int, float)
    assert is_number == (within is not None), f"a number has bounds, and nothing else: {help}"
    metadata = {
        "help": help,
        "group": group,
        "choices": choices,
        "within": within,
        "check": check,
        "may_change": may_change,
        "words": words,
    }
    return dataclasses.field(default=default, metadata=metadata)


def fields(*classes: type) -> list[dataclasses.Field[Any]]:
    """The flag fields of the classes, in their order."""
    return [field for cls in classes for field in dataclasses.fields(cls) if "help" in field.metadata]


def parse(argv: list[str], *classes: type) -> dict[str, Any]:
    """argv (without the program's name) -> a value for every flag of the classes; --flagfile is understood.

    Raises exits.UsageError, a sentence, for an unknown flag, a value of the wrong type and a positional argument, and
    exits.CannotRun as `check` does.
    """
    parsed, words = parse_with_words(argv, *classes)
    if words:
        raise exits.UsageError(f"`{shortened(words[0])}` is not a flag; every setting is written --name=value.")
    return parsed


def parse_with_words(argv: list[str], *classes: type) -> tuple[dict[str, Any], list[str]]:
    """Like `parse`; the words that are no flags, before, between and after them, and all behind `--`, come second."""
    values = flags.FlagValues()
    flags.DEFINE_string("undefok", "", "", flag_values=values)
    for field in fields(*classes):
        _define(field, values)
    words = flagfiles.inlined(argv)
    for word in words:
        # absl's search for flags with similar names is a recursion over its characters.
        if word.startswith("-") and len(word.partition("=")[0]) > _MAX_SHOWN:
            raise exits.UsageError(f"there is no flag {shortened(word)}; --help lists the flags there are.")
    try:
        rest = values(["convoy", *words])[1:]
    except flags.UnrecognizedFlagError as error:
        raise exits.UsageError(_unknown(error.flagname, _value(words, error.flagvalue), classes)) from None
    except flags.Error as error:
        # absl names flag, value and what it should be.
        flag, _, rest = str(error).removeprefix("flag ").rstrip(".").partition("=")
        value, _, what = rest.rpartition(": ")
        what = "give true or false" if "Non-boolean" in what else what
        raise exits.UsageError(f"{flag}={shortened(value)}: {what}." if value else f"{flag}.") from None
    except ValueError as error:  # a value where a switch takes none
        raise exits.UsageError(f"{shortened(error, 200)}.") from None
    parsed = {field.name: values[field.name].value for field in fields(*classes)}
    for field in fields(*classes):
        _check(field, parsed[field.name])
    return parsed, rest


def _unknown(name: str, value: str, classes: tuple[type, ...]) -> str:
    """The sentence for a flag that the classes do not have."""
    names = [field.name for field in fields(*classes)]
    if theirs := elsewhere.hint(name, value, names):
        return f"there is no flag --{shortened(name)}; {theirs}."
    return (
        f"there is no flag --{shortened(name)}; {near(name, names, '--help lists the flags there are.', form='--{}')}"
    )


def _value(words: list[str], word: str) -> str:
    """What a person gave the flag that a word begins: behind its =, or as the next word."""
    name, equals, value = word.partition("=")
    if equals or name not in words:
        return value
    following = words[words.index(name) + 1 :][:1]
    return "".join(text for text in following if not text.startswith("-"))


def take(cls: type, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `parsed`, flags or a document, that belongs to one class, as keyword arguments.

    Raises KeyError for what is missing, and TypeError, with a sentence, for a value that no flag could have given.
    """
    return {field.name: _typed(field, parsed[field.name]) for field in fields(cls)}


def from_keywords(caller: str, keywords: Mapping[str, Any], *classes: type) -> dict[str, Any]:
    """Keyword arguments -> a value for every flag of the classes; paths may be path objects, numbers NumPy's.

    Args:
      caller: whose arguments they are, for sentences.

    Raises:
      exits.UsageError: there is no such flag, or its value is of another type; `check` refuses impossible values.
    """
    known = {field.name: field for field in fields(*classes)}
    parsed = {name: field.default for name, field in known.items()}
    for name, value in keywords.items():
        if name not in known:
            theirs = elsewhere.hint(name, str(value), known)
            hint = f"{theirs} as a keyword argument." if theirs else near(name, known, _LISTS)
            raise exits.UsageError(f"{caller} has no argument {shortened(name)}; {hint}")
        try:
            parsed[name] = _typed(known[name], _plain(value))
        except TypeError as error:
            raise exits.UsageError(f"{caller}: {error}.") from None
    return parsed


def check(config: Any) -> None:
    """Raises exits.CannotRun for a number out of its bounds, a text that is none of its choices or that no file or terminal
    should get, and whatever a field's own check refuses."""
    for field in fields(type(config)):
        _check(field, getattr(config, field.name))


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    within = field.metadata["within"]
    if within and value is not None and not within.holds(value) and value not in field.metadata["words"].values():
        raise impossible(field.name, value, f"give {_numbers(field)}")
    if isinstance(value, str):
        _check_text(field.name, value)
    choices = field.metadata["choices"]
    if choices is not None and value not in choices:
        raise impossible(field.name, value, near(value, choices))
    if field.metadata["check"]:
        field.metadata["check"](value)


def _check_text(name: str, value: str) -> None:
    if len(value) > bounds.LONGEST_TEXT:
        raise impossible(name, value, f"give at most {bounds.LONGEST_TEXT:,} characters")
    if "\n" in value or "\r" in value:
        raise exits.CannotRun(f"--{name} holds a line break, which no flagfile can say; rename what it names.")
    if _CONTROL.search(value):
        raise impossible(name, value, "it holds a control character; rename what it names")
    try:
        value.encode("utf-8", "surrogateescape")  # as names of files come that are no UTF-8
    except UnicodeEncodeError:
        raise impossible(name, value, "it is not valid Unicode") from None


def impossible(flag: str, value: object, remedy: str) -> exits.CannotRun:
    """The sentence for a flag whose value cannot be; `remedy` is an imperative or a question."""
    end = "" if remedy.endswith("?") else "."
    return exits.CannotRun(f"--{flag}={shortened(value)} is not possible: {remedy.rstrip('.')}{end}")


def names_in(flag: str, text: str, table: Table[Any]) -> tuple[str, ...]:
    """The names of rows that commas join, in the order in which they are given.

    Raises exits.CannotRun for a name that is no row, and for one that comes twice.
    """
    names = tuple(text.split(","))
    for name in names:
        if name not in table:
            raise impossible(flag, text, f"`{shortened(name)}` is no {table.kind}; {table.near(name)}")
        if names.count(name) > 1:
            raise impossible(flag, text, f"give {name} once")
    return names


def shortened(value: object, limit: int = _MAX_SHOWN) -> str:
    """A value as a sentence shows it: all of it up to `limit` characters, else the first half of the limit."""
    text = printable(str(value))
    return text if len(text) <= limit else f"{text[: limit // 2]}... ({len(text):,} characters)"


def to_flags(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """(name, value) -> the flag lines that say it; None is left out."""
    lines = []
    for name, value in pairs:
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        elif value is not None:
            lines.append(f"--{name}={value}")
    return lines


def _define(field: dataclasses.Field[Any], values: flags.FlagValues) -> None:
    name, default, help = field.name, field.default, ""
    if field.metadata["choices"] is not None:
        flags.DEFINE(_Choice(field), name, default, help, flag_values=values)
    elif _kind(field) is bool:
        flags.DEFINE_bool(name, default, help, flag_values=values)
    elif _kind(field) is str:
        flags.DEFINE_string(name, default, help, flag_values=values)
    else:
        flags.DEFINE(_Number(field), name, default, help, flag_values=values)


def _kind(field: dataclasses.Field[Any]) -> type:
    return float if field.default is None else type(field.default)


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    kind, optional = _kind(field), field.default is None
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if type(value) is kind or (optional and value is None):
        return value
    called = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
    raise TypeError(f"{field.name} is {shortened(repr(value))} and should be {called}")


def _plain(value: Any) -> Any:
    """A path object as a text, a number of NumPy as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else value


class _Choice(flags.ArgumentParser[str]):
    """Reads one of a few texts."""

    def __init__(self, field: dataclasses.Field[Any]):
        self._field = field

    def parse(self, argument: str) -> str:
        choices = self._field.metadata["choices"]
        if argument not in choices:
            error = impossible(self._field.name, argument, near(argument, choices))
            raise exits.UsageError(str(error))
        return argument


class _Number(flags.ArgumentParser[Any]):
    """Reads a number of a flag, in ASCII: Python's own int takes digits of every script."""

    def __init__(self, field: dataclasses.Field[Any]):
        self._field = field

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument  # the default
        if argument in self._field.metadata["words"]:
            return self._field.metadata["words"][argument]
        whole = _kind(self._field) is int
        try:
            if not whole:
                return bounds.number(argument)
            if len(argument) > bounds.MAX_CHARACTERS or not (match := _INTEGER.fullmatch(argument)):
                raise ValueError
            return int(argument, 0 if match[1][1:2].lower() in ("x", "o") else 10)
        except ValueError:
            raise exits.UsageError(
                f"--{self._field.name}={shortened(argument)} is no {'whole ' * whole}number; give {_numbers(self._field)}."
            ) from None


def _numbers(field: dataclasses.Field[Any]) -> str:
    """What a number can be, in words."""
    return " or ".join([*field.metadata["words"], str(field.metadata["within"])])
