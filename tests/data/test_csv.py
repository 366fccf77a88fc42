"""A CSV of image files: its columns, splits and groups; what is wrong in it is a sentence with the line."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from support import result_of

NAMES = [f"{label}/{index:03d}.{'png' if index % 2 else 'jpg'}" for label in ("cat", "dog") for index in range(12)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(folder: Path, *columns: str, rows: list[tuple[str, ...]] | None = None, delimiter: str = ",") -> Path:
    """A CSV of all photographs, or of some rows."""
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns or ("file", "label"))
        writer.writerows([(name, name[:3]) for name in NAMES] if rows is None else rows)
    return path


def opened(path: Path, **values):
    return open_dataset(DataConfig(f"csv:{path}", **values))


def test_a_csv_of_a_folder_is_the_folder(photographs):
    rows = [(name, name[:3]) for name in reversed(NAMES)]  # in any order
    ours, theirs = (open_splits(DataConfig(dataset)) for dataset in
                    (f"csv:{written(photographs, rows=rows)}", f"folder:{photographs}"))  # fmt: skip
    assert ours.dataset.class_names == theirs.dataset.class_names == ("cat", "dog")
    for part, other in ((ours.train, theirs.train), (ours.held_out, theirs.held_out)):
        assert part.paths == other.paths
        assert np.array_equal(part.labels, other.labels)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_byte_order_marks_and_names_of_columns(photographs, delimiter, encoding):
    rows = [(name[:3], f"./{name}", "Train" if number % 3 else "val", "7") for number, name in enumerate(NAMES)]
    path = written(photographs, "Label", " FILE ", "Split", "age", delimiter=delimiter, rows=rows)
    path.write_bytes(path.read_text().replace("\r\n", "\n\n").encode(encoding))
    dataset = opened(path)
    assert dataset.split_names == ("train", "validation")
    assert [len(dataset.split(split)) for split in dataset.split_names] == [16, 8]


def test_columns_that_are_not_used_are_said(photographs, capsys):
    opened(written(photographs, "file", "label", "age", "site", rows=[(name, name[:3], "7", "a") for name in NAMES]))
    assert "rows.csv these columns are not used: age, site." in capsys.readouterr().out


def test_numbers_are_labels_in_order_of_value(photographs):
    rows = [(name, str(label)) for name, label in zip(NAMES, [10, 9, 2] * 8, strict=True)]
    dataset = opened(written(photographs, rows=rows))
    assert dataset.class_names == ("2", "9", "10")
    assert np.bincount(dataset.split("train").labels).tolist() == [8, 8, 8]


def test_groups_of_a_csv_stay_together(photographs, tmp_path):
    rows = [(name, name[:3], f"patient {number % 6}") for number, name in enumerate(NAMES)]
    path = written(photographs, "file", "label", "group", rows=rows)
    config = DataConfig(f"csv:{path}", eval_split="hash:0.3")
    splits = open_splits(config)
    group = {f"{photographs}/{name}": patient for name, _, patient in rows}
    held, rest = ({group[path] for path in part.paths} for part in (splits.held_out, splits.train))
    assert len(held) == 2
    assert held.isdisjoint(rest)
    pack(config, tmp_path / "packed", 20_000)
    packed = open_splits(DataConfig(f"records:{tmp_path / 'packed'}", eval_split="hash:0.3"))
    assert np.array_equal(packed.dataset.groups["train"], splits.dataset.groups["train"])
    assert np.array_equal(packed.train.labels, splits.train.labels)
    with pytest.raises(exits.CannotRun, match="rows.csv has a column group; leave one of them out"):
        opened(path, group="(0)")
    assert len(opened(written(photographs), group="/([0-9])").groups["train"]) == 24


def test_names_begin_where_data_dir_says_or_are_absolute_below_it(photographs, tmp_path, monkeypatch):
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    path = written(elsewhere)
    expected = [f"{photographs}/{name}" for name in NAMES]
    assert opened(path, data_dir=str(photographs)).split("train").paths == expected
    path = written(elsewhere, rows=[(f"{photographs}/{name}", name[:3]) for name in NAMES])
    assert opened(path, data_dir=str(photographs)).split("train").paths == expected
    monkeypatch.chdir(photographs)
    written(photographs)
    assert opened(Path("rows.csv")).split("train").paths == NAMES


WRONG = [
    ("", "line 1 of .*rows.csv has no column file; begin with a line such as file,label"),
    ("a.jpg,cat\n", "line 1 of .* has no column file"),
    ("filename,label\na,b\n", "has no column file; did you mean filename\\? Rename it to file"),
    ("file,class\na,b\n", "has no column label"),
    ("file,label,splits\na,b,train\n", "has a column splits; did you mean split\\?"),
    ("file,label,label\na,b,c\n", "has 2 columns label; leave one"),
    ("file,label\n", "lists no files"),
    ("file,label\ncat/000.jpg,cat\ncat/001.png\n", "line 3 of .* has 1 cells, and the first line 2"),
    ("file,label\ncat/000.jpg,cat,\n", "line 2 of .* has 3 cells"),
    ("file,label\ncat/000.jpg, \n", "line 2 of .* has an empty label"),
    ("file,label\n,cat\n", "has an empty file"),
    ("file,label,split\ncat/000.jpg,cat,\n", "has an empty split"),
    ("file,label,group\ncat/000.jpg,cat,\n", "has an empty group"),
    ("file,label\ncat/000.jpg,cat\ncat/./000.jpg,dog\n", "names cat/000.jpg, as line 2 does \\(label cat and dog\\)"),
    ("file,label\ncat/000.jpg,cat\n\ncat/000.jpg,cat\n", "line 4 of .* names cat/000.jpg, as line 2 does \\(label cat\\)"),
    ("file,label,split\ncat/000.jpg,cat,trian\n", "line 2 of .* has the split trian; did you mean train\\?"),
    ("file,label,split\ncat/000.jpg,cat,test\n", "no line of .* has the split train"),
    ("file,label\ncat/000.jpg,cat\n", "has 1 label to train on; a classifier needs at least two"),
    ("file,label,split\ncat/000.jpg,cat,train\ndog/000.jpg,dog,train\ndog/001.png,cow,test\n",
     "line 4 of .* has a label cow that no training file has; those have cat, dog"),
    ("file,label,split,group\ncat/000.jpg,cat,train,p1\ndog/000.jpg,dog,train,p2\ndog/001.png,dog,test,p2\n",
     "the group 'p2' stands on two sides: .*dog/000.jpg is of train, and .*dog/001.png of test"),
    ("file,label\ncat/000.jpg,\"cat\ncat/001.png,cat\n", "does not read as CSV after line 1: unexpected end of data"),
    ("file,label\ncat/000.jpg,\"cat\"x\n", "does not read as CSV after line 1"),
    ("file,label\ncat/000.jpg,cat\ncat/nowhere.jpg,dog\n",
     "cat/nowhere.jpg cannot be read: no such file or directory; mend it or take its line out of .*rows.csv"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_line(photographs, text, words):
    (photographs / "rows.csv").write_text(text)
    with pytest.raises(exits.BadData, match=words):
        opened(photographs / "rows.csv").split("train")


def test_files_that_are_missing_are_bad_images(photographs):
    path = written(photographs)
    (photographs / NAMES[3]).unlink()
    examples = opened(path, bad_images="skip", max_bad_fraction=0.1).split("train")
    assert examples.unreadable().tolist() == [3]


@pytest.mark.parametrize("given", ["absent.csv", "cat"])
def test_a_csv_that_is_none_is_refused(photographs, given):
    with pytest.raises(exits.CannotRun, match="does not exist|no such file|is a folder"):
        opened(photographs / given)


def test_a_csv_is_previewed(photographs):
    from convoy.data.preview import contact_sheet

    assert contact_sheet(DataConfig(f"csv:{written(photographs)}", augment="flip"), 4, 0).startswith(b"\x89PNG")


def test_a_change_of_the_csv_is_another_data_set_and_a_move_is_none(photographs, tmp_path):
    rows = [(name, name[:3], f"p{number % 6}") for number, name in enumerate(NAMES)]

    def identity(changed: list[tuple[str, ...]]):
        path = written(photographs, "file", "label", "group", rows=changed)
        return open_splits(DataConfig(f"csv:{path}")).identity

    then, (*others, (last, label, group)) = identity(rows), rows
    os.link(photographs / last, photographs / "dog" / "same.png")
    for change in ((last, "cat", group), (last, label, "p4"), ("dog/same.png", label, group)):
        (said,) = identity([*others, change]).differences(then)
        assert said == "some of the 24 files of the split train have other names, sizes, labels or groups"
    assert identity(others).differences(then) == ["the split train had 24 examples and has 23"]

    identity(rows[::-1])
    shutil.move(photographs, tmp_path / "moved")
    (tmp_path / "moved" / "rows.csv").rename(tmp_path / "list.csv")
    moved = DataConfig(f"csv:{tmp_path}/list.csv", data_dir=str(tmp_path / "moved"))
    assert open_splits(moved).identity.differences(then) == []


@pytest.mark.thorough
def test_a_run_on_a_csv(photographs, convoy):
    rows = [(name, name[:3], ("train", "test")[number % 3 // 2], f"p{number}") for number, name in enumerate(NAMES)]
    written(photographs, "file", "label", "split", "group", rows=rows)
    flags = ("--dataset=csv:rows.csv", "--batch_size=8", "--duration=2st", "--eval_split=hash:0.25", "--run_dir=run")
    outcome = convoy("train", *flags, cwd=photographs)
    assert outcome.code == 0, outcome
    result = result_of(photographs / "run")
    assert (result["step"], result["eval"]["split"], result["eval"]["examples"]) == (2, "test", 8)
