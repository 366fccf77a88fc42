"""A group never stands on both sides of a split, whatever the groups, the fraction and the purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import exits
from convoy.data import groups
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from support import write_images

# (group, label) of each example
EXAMPLES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.floats(0.01, 0.99), st.text(max_size=3))
def test_a_group_is_never_on_both_sides(examples, fraction, purpose):
    names, labels = [f"patient {group}" for group, _ in examples], np.array([label for _, label in examples], np.int32)
    numbers = groups.numbered(names)
    chosen = groups.held_out(numbers, labels, fraction, purpose)
    held, rest = ({name for name, side in zip(names, chosen, strict=True) if side == want} for want in (True, False))
    assert held.isdisjoint(rest)
    # A class in several groups keeps some of it to train on.
    assert set(labels.tolist()) == set(labels[~chosen].tolist())
    # Another order of the same examples is the same split.
    order = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(groups.held_out(numbers[order], labels[order], fraction, purpose), chosen[order])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5]))
def test_many_groups_hold_the_share_and_the_classes(seed, fraction):
    generator = np.random.default_rng(seed)
    labels = generator.choice(4, 4000, p=[0.6, 0.25, 0.1, 0.05]).astype(np.int32)
    numbers = groups.numbered([str(group) for group in generator.integers(0, 400, 4000)])
    chosen = groups.held_out(numbers, labels, fraction, "eval")
    assert abs(chosen.mean() - fraction) < 0.01
    shares = np.bincount(labels[chosen], minlength=4) / np.bincount(labels)
    assert np.abs(shares - fraction).max() < 0.1, shares


def test_small_classes_do_not_change_the_share():
    """Of four examples a tenth is none, and of six it is one: over a hundred classes the sum is still a tenth."""
    for each in (4, 6):
        labels = np.repeat(np.arange(100, dtype=np.int32), each)
        chosen = groups.held_out(groups.numbered([str(row) for row in range(len(labels))]), labels, 0.1, "eval")
        assert abs(chosen.mean() - 0.1) < 0.005
        assert np.bincount(labels[chosen]).max() == 1


def test_of_a_few_large_groups_one_is_held_out():
    numbers = groups.numbered([f"camera {row % 3}" for row in range(90)])
    chosen = groups.held_out(numbers, np.arange(90, dtype=np.int32) // 45, 0.1, "eval")
    assert chosen.sum() == 30


def test_another_purpose_is_another_split():
    numbers, labels = groups.numbered([str(row) for row in range(500)]), np.zeros(500, np.int32)
    first, second = (groups.held_out(numbers, labels, 0.2, purpose) for purpose in ("eval", "test"))
    assert 5 < (first & second).sum() < 45  # 20 expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(p[0-9]+)_", ["p1", "p22", "p1"]),
        (r"^[^/]*/p([0-9]+)", ["1", "22", "1"]),
        (r"_(?P<camera>.)\.", ["a", "b", "c"]),
        (r"(?i)(P[0-9])", ["p1", "p2", "p1"]),
        (r"p1(?:_)(.)|p22_(.)|(b)", None),  # the second has no first group
        (r"(x)", None),
    ],
)
def test_the_first_group_of_the_expression_names_the_group(pattern, expected):
    names = ["cat/p1_a.jpg", "dog/p22_b.jpg", "dog/p1_c.jpg"]
    if expected is None:
        with pytest.raises(exits.BadData, match=r"finds no group in (dog/p22_b|cat/p1_a)\.jpg"):
            groups.of_names(names, pattern)
    else:
        assert groups.of_names(names, pattern) == expected


def test_names_that_are_no_utf_8_have_groups_too():
    assert groups.of_names(["cat/\udcff-p7-\udcfe\n.jpg"], "-(p[0-9])-") == ["p7"]


def test_an_expression_that_takes_for_ever_elsewhere_takes_no_time():
    assert groups.of_names(["a" * 200 + "b"], "^((a+)+)b$") == ["a" * 200]
    with pytest.raises(exits.BadData, match="finds no group"):
        groups.of_names(["a" * 200 + "b"], "^((a+)+)$")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"group": "(p"}, "--group=(p is not possible: it is no regular expression"),
        ({"group": "p[0-9]+"}, "put what names the group into (...)"),
        ({"dataset": "digits", "group": "(p)"}, "--dataset=digits has no names of files"),
        ({"group": "(" * 2000 + ")" * 2000}, "no regular expression"),
    ],
)
def test_an_impossible_group_is_refused_before_anything_starts(values, words):
    with pytest.raises(exits.CannotRun) as error:
        DataConfig(**{"dataset": "folder:photos", **values})
    assert words in str(error.value)


@pytest.fixture
def patients(photographs):
    """24 photographs of six patients, four of each, some of either class."""
    for path in photographs.rglob("*.*"):
        path.rename(path.with_name(f"p{int(path.stem) % 6}_{path.name}"))
    return photographs


def test_the_patients_of_a_folder_stay_together_also_when_packed(patients, tmp_path, capsys):
    config = DataConfig(f"folder:{patients}", group="(p[0-9])_", eval_split="hash:0.3")
    opened = open_splits(config)
    sides = [{path.rpartition("/")[2][:2] for path in part.paths} for part in (opened.train, opened.held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0] | sides[1] == {f"p{number}" for number in range(6)}
    assert "Note: --eval_split=hash:0.3 holds out 33.3% of the training examples" in capsys.readouterr().out

    pack(config, tmp_path / "packed", 20_000)
    packed = open_splits(DataConfig(f"records:{tmp_path / 'packed'}", eval_split="hash:0.3"))
    for ours, theirs in ((packed.train, opened.train), (packed.held_out, opened.held_out)):
        assert np.array_equal(ours.labels, theirs.labels)
        assert ours._rows.tolist() == [sorted(map(str, patients.rglob("*.*"))).index(path) for path in theirs.paths]
    pack(config, tmp_path / "packed", 20_000)
    assert "holds all of" in capsys.readouterr().out
    (tmp_path / "packed" / "train.groups.npy").write_bytes(b"")
    with pytest.raises(exits.BadData, match="train.groups.npy is not as it was packed"):
        open_dataset(DataConfig(f"records:{tmp_path / 'packed'}"))


def test_an_expression_that_only_python_knows_is_refused(patients):
    with pytest.raises(exits.CannotRun, match="RE2 does not take it"):
        open_dataset(DataConfig(f"folder:{patients}", group="(?=.*)(p[0-9])"))


def test_a_patient_in_two_splits_of_a_folder_is_named(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path / split, ("a", "b"), 3, first=len(split))
    with pytest.raises(exits.BadData, match=r"the group '000' stands on two sides: .*train/a/000.jpg is of train"):
        open_dataset(DataConfig(f"folder:{tmp_path}", image_size=8, group="/([0-9]+)"))
