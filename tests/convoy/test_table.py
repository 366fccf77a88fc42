"""Tables of names, and flags that take their values from them."""

from __future__ import annotations

import dataclasses

import pytest

from convoy import exits, help_text, options
from convoy.bounds import whole
from convoy.counting import counted
from convoy.options import option
from convoy.table import Entry, Table, closest, joined, near

METALS = Table(
    "metal",
    {
        "iron": Entry("json:dumps", "heavy", source="Hall 2000"),
        "tin": Entry("not.there:at_all", "light", argument="GRAMS", options=("shiny",)),
    },
)


def test_a_row_is_loaded_late_and_by_name():
    import json

    assert METALS.load("iron") is json.dumps
    assert list(METALS) == ["iron", "tin"]
    with pytest.raises(ModuleNotFoundError):
        METALS.load("tin")


def test_lines_of_help_name_syntax_and_source():
    assert METALS.help() == "iron: heavy (Hall 2000); tin:GRAMS: light"
    assert METALS.lines() == "  iron  heavy\n  tin   light"
    assert METALS.with_option("shiny") == ["tin"]


def test_an_unknown_name_is_answered_with_a_close_one_or_with_all():
    assert METALS.near("irn") == "did you mean iron?"
    assert METALS.near("zzz") == "there are iron, tin."
    assert near("zzz", METALS, "look it up.") == "look it up."
    assert near("tinn", METALS, form="--{}") == "did you mean --tin?"
    assert closest("l4x2", ["l4x1", "l4x4", "h100x8"], count=3) == ["l4x4", "l4x1"]


def test_names_are_joined_as_a_sentence_lists_them():
    assert joined(["a"], "or") == "a"
    assert joined(["a", "b"], "or") == "a or b"
    assert joined(["a", "b", "c"], "and") == "a, b and c"


def _even(value: int) -> None:
    if value % 2:
        raise options.impossible("count", value, "give an even number")


@dataclasses.dataclass(frozen=True)
class Coin:
    """One flag of each kind that has more than a type."""

    metal: str = option("iron", lambda: f"{METALS.help()}.", group="Coin", choices=METALS)
    count: int = option(2, "how many.", group="Coin", within=whole(0, 9), check=_even, may_change=True)

    def __post_init__(self) -> None:
        options.check(self)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"metal": "tim"}, "--metal=tim is not possible: did you mean tin?"),
        ({"count": 3}, "--count=3 is not possible: give an even number."),
        ({"count": 10}, "--count=10 is not possible: give a whole number from 0 to 9."),
    ],
)
def test_a_value_that_is_impossible_is_refused_from_python_and_from_a_command_line(values, sentence):
    with pytest.raises(exits.CannotRun) as refused:
        Coin(**values)
    assert str(refused.value) == sentence
    [(flag, value)] = values.items()
    with pytest.raises(exits.ConvoyError) as refused:
        options.parse([f"--{flag}={value}"], Coin)
    assert str(refused.value) == sentence
    assert refused.value.code == (exits.USAGE if flag == "metal" else exits.CANNOT_RUN)


def test_what_a_field_declares_is_read_from_it():
    metal, count = options.fields(Coin)
    assert not metal.metadata["may_change"]
    assert count.metadata["may_change"]
    assert "iron: heavy (Hall 2000); tin:GRAMS: light. [iron]" in " ".join(help_text.of_verb("", Coin).split())


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "file", "0 files"), (1, "file", "1 file"), (1.0, "epoch", "1 epoch"), (2.5, "epoch", "2.5 epochs"),
        (3000, "class", "3,000 classes"), (2, "batch", "2 batches"), (2, "training image", "2 training images"),
    ],
)  # fmt: skip
def test_nouns_follow_their_number(number, noun, words):
    assert counted(number, noun) == words
