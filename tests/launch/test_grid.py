"""--sweep: the language of a grid."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from convoy import exits
from convoy.launch import grid


def values(text: str) -> list[str]:
    """The values of a grid with one axis."""
    return [value for ((_, value),) in grid.points(text)]


def test_a_grid_has_every_combination_in_order():
    assert grid.points("learning_rate=0.1,0.2; seed=0:2") == [
        (("learning_rate", "0.1"), ("seed", "0")),
        (("learning_rate", "0.1"), ("seed", "1")),
        (("learning_rate", "0.2"), ("seed", "0")),
        (("learning_rate", "0.2"), ("seed", "1")),
    ]
    assert grid.points("") == grid.points(" ; ") == [()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate=0.1, 0.2 ,\t0.3", ["0.1", "0.2", "0.3"]),
        (" seed = 0:2 ;", ["0", "1"]),
        ('name="a,b",c', ["a,b", "c"]),
        ("name='a;b', \"it's, here\"", ["a;b", "it's, here"]),
        ("name=it's,others'", ["it's", "others'"]),
        ("name=\" a \",''", [" a ", ""]),
        ("range='0:2'", ["0:2"]),
        ("range=0:2,4", ["0:2", "4"]),
    ],
)
def test_quotes_hold_commas_and_blanks_around_values_are_dropped(text, expected):
    assert values(text) == expected


@given(strategies.lists(strategies.text("ab ,;'=:0", max_size=5), min_size=1, max_size=4))
def test_whatever_stands_in_quotes_is_a_value(texts):
    quoted = ",".join(f'"{text}"' for text in texts)
    assert values(f"name={quoted}") == texts


@pytest.mark.parametrize(
    "text", ["seed=0:100000000000000000", ";".join(f"a{i}=0:9000" for i in range(9)), "seed=0:10001"]
)
def test_too_many_jobs_are_refused_before_they_are_enumerated(text):
    with pytest.raises(exits.CannotRun, match=r"jobs, and 10,000 are possible; give fewer values\."):
        grid.points(text)


def test_numbers_of_thousands_of_digits_are_no_range():
    number = "9" * 5000
    assert values(f"seed=0:{number}") == [f"0:{number}"]  # which --seed refuses


def test_a_sweep_may_be_given_with_a_space():
    argv = ["--name=a", "--sweep", "lr=1,2", "--sweep=seed=0:3", "--wait"]
    assert grid.joined(argv) == ["--name=a", "--wait", "--sweep=lr=1,2;seed=0:3"]
    assert grid.joined(["--name=a"]) == ["--name=a"]


@pytest.mark.parametrize("argv", [["--sweep"], ["--sweep="], ["--sweep=seed=0:2", "--sweep", ""]])
def test_an_empty_sweep_is_not_one_job(argv):
    with pytest.raises(exits.UsageError, match="--sweep is empty"):
        grid.joined(argv)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate", "`learning_rate` is not FLAG=VALUE"),
        ("=1", "`=1` is not FLAG=VALUE"),
        ("a b=1", "`a b=1` is not FLAG=VALUE"),
        ("seed=", "has an empty value"),
        ("seed=1,,2", "has an empty value"),
        ("seed=1,", "has an empty value"),
        ("seed=3:3", "seed has a range without numbers"),
        ("seed=3:0", "seed has a range without numbers"),
        ("seed=0:2;seed=4:6", "has seed twice"),
        ("name='a,b", "ends with the quote; `'a,b` has none there"),
        ('name="a"b,c', "ends with the quote"),
    ],
)
def test_a_malformed_grid_is_a_sentence(text, words):
    with pytest.raises(exits.UsageError, match="--sweep=") as raised:
        grid.points(text)
    assert words in str(raised.value)
