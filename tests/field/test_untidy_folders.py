"""Folders as cameras, archives, file systems and people leave them: the right classes and counts, and one note on the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from photo_folders import BMP, PNG, PREDICT, counts, opened, several, write

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.listing import image_files
from convoy.data.images.walk import LeftOut, images_below
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset


class Expected(NamedTuple):
    """What a folder holds, and expressions that match the notes on it, one each."""

    splits: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()


def hidden_files_at_any_depth(root: Path) -> Expected:
    several(root, cat=3, dog=2, cat__deeper=1)
    write(root, "cat/._0.jpg", "cat/.thumbnails/0.jpg", "cat/deeper/.x.jpg", "dog/.ipynb_checkpoints/0-checkpoint.jpg")
    write(root, ".Trash-1000/files/0.jpg", "__MACOSX/cat/0.jpg", "cat/@eaDir/0.jpg/THUMB_M.jpg", "dog/Thumbs.db")
    write(root, "cat/deeper/__MacOSX/0.jpg", "$RECYCLE.BIN/0.jpg", ".DS_Store", "dog/desktop.ini")
    hidden = rf"left out: 12 hidden files or folders \('{root}/\$RECYCLE.BIN', \.\.\.\)\.$"
    return Expected({"train": {"cat": 4, "dog": 2}}, (hidden,))


def linked_folders_and_circles(root: Path) -> Expected:
    elsewhere = root.parent / "elsewhere"
    several(root, cat=10, dog=1, cat__own=2)
    several(elsewhere, more=20, more__inner=7, shared=3)
    for link, target in {
        "cat/more": elsewhere / "more",
        "cat/twice": elsewhere / "more",  # listed once
        "cat/inner": elsewhere / "more" / "inner",  # which comes before, so that it is left out below more
        "cat/again": "own",  # listed without the link
        "cat/up": "..",
        "dog/itself": ".",
        "photos": "../photos",  # no class
        "dog/shared": elsewhere / "shared",  # in both classes
    }.items():
        (root / link).symlink_to(target)
    (elsewhere / "more" / "shared").symlink_to("../shared")
    (elsewhere / "shared" / "back").symlink_to("../more")
    (elsewhere / "more" / "inner" / "out").symlink_to(elsewhere)
    notes = rf"left out: 10 linked folders that are listed anyway \('{root}/cat/again', \.\.\.\)\.$"
    return Expected({"train": {"cat": 42, "dog": 31}}, (notes,))


def images_of_any_name(root: Path) -> Expected:
    several(root, cat=2, dog=2)
    write(root, "cat/a.jfif", "cat/b.JPE", "cat/c", "cat/IMG.2034", "cat/e.jpg_large", "cat/f.JPEG", "cat/g.MPO")
    write(root, "dog/a", content=PNG)
    write(root, "dog/b.unknown", "dog/c.dib", content=BMP)
    write(root, "dog/README", "dog/BMW", content=b"BMW is a maker of cars, and this is a text.")
    write(root, "dog/notes.txt", "dog/0.jpg.bak", "dog/clip.THM", "dog/1.jpg_original")  # not looked at
    write(root, "dog/empty", content=b"")
    os.mkfifo(root / "dog" / "pipe")
    (root / "dog" / "gone").symlink_to("nowhere")
    no_images = rf"left out: 9 files that are no images \('{root}/dog/0.jpg.bak', \.\.\.\)\.$"
    return Expected({"train": {"cat": 9, "dog": 5}}, (no_images,))


def training_and_testing(root: Path) -> Expected:
    several(root, Training__cat=3, Training__dog=2, Testing__cat=1, Testing__dog=2)
    return Expected({"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 2}})


def train_val_test_with_capitals(root: Path) -> Expected:
    several(root, Train__cat=3, Train__dog=2, VAL__cat=1, Test__dog=2)
    splits = {"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1, "dog": 0}, "test": {"cat": 0, "dog": 2}}
    return Expected(splits)


def train_and_dev(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, dev__cat=1, dev__dog=1)
    return Expected({"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1, "dog": 1}})


def train_and_validation_with_a_capital(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, Validation__cat=1)
    return Expected({"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1, "dog": 0}})


def folders_beside_the_splits(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, eval__cat=1, extra__cat=9, labels=0)
    (root / "labels").mkdir()
    write(root, "sample.jpg", "train/stray.jpg", "test.csv")
    loose = rf"left out: 2 images without labels, {PREDICT} \('{root}/sample.jpg', \.\.\.\)\.$"
    others = rf"^Note: {root} holds splits; left out beside them: extra, labels\.$"
    return Expected({"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1, "dog": 0}}, (others, loose))


def an_archive_of_seg_train_seg_test_and_seg_pred(root: Path) -> Expected:
    several(root, seg_train__seg_train__cat=3, seg_train__seg_train__dog=2, seg_test__seg_test__cat=1)
    several(root, seg_pred__seg_pred=5)
    others = r"holds splits; left out beside them: seg_pred\.$"
    return Expected({"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 0}}, (others,))


def training_set_and_test_set(root: Path) -> Expected:
    several(root, **{"training_set__cat": 2, "training_set__dog": 2, "Test Set__cat": 1, "Test Set__dog": 1})
    return Expected({"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}})


def images_in_the_test_folder(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, test=4)
    return Expected(
        {"train": {"cat": 3, "dog": 2}}, (rf"left out: 4 images without labels, {PREDICT} \('{root}/test/0.jpg', ",)
    )


def images_in_one_unknown_folder(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, test__unknown=4, val__cat=1)
    splits = {"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1, "dog": 0}}
    return Expected(splits, (r"left out: 4 images without labels, .*test/unknown/0.jpg",))


def images_in_test_test_as_unpacked(root: Path) -> Expected:
    several(root, train__train__cat=3, train__train__dog=2, test__test=1)
    note = rf"left out: 1 image without a label, {PREDICT} \('.*test/test/0.jpg'\)\.$"
    return Expected({"train": {"cat": 3, "dog": 2}}, (note,))


def validation_and_test_without_labels(root: Path) -> Expected:
    several(root, train__cat=3, train__dog=2, val=2, test=4)
    return Expected({"train": {"cat": 3, "dog": 2}}, (rf"left out: 6 images without labels, .*{root}/test/0.jpg",))


def classes_with_folders_of_their_own(root: Path) -> Expected:
    several(root, cat__2019=1, cat__2020=2, dog__2020=3, bus__front=2)
    return Expected({"train": {"bus": 2, "cat": 3, "dog": 3}})


def a_class_called_test_in_every_split(root: Path) -> Expected:
    several(root, train__test=3, train__rest=2, test__test=2)
    return Expected({"train": {"rest": 2, "test": 3}, "test": {"rest": 0, "test": 2}})


KINDS = [
    hidden_files_at_any_depth,
    linked_folders_and_circles,
    images_of_any_name,
    training_and_testing,
    train_val_test_with_capitals,
    train_and_dev,
    train_and_validation_with_a_capital,
    folders_beside_the_splits,
    an_archive_of_seg_train_seg_test_and_seg_pred,
    training_set_and_test_set,
    images_in_the_test_folder,
    images_in_one_unknown_folder,
    images_in_test_test_as_unpacked,
    validation_and_test_without_labels,
    classes_with_folders_of_their_own,
    a_class_called_test_in_every_split,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_untidy_folder_has_the_right_classes_and_counts(root, kind: Callable[[Path], Expected], capsys):
    expected = kind(root)
    assert counts(opened(root)) == expected.splits
    notes = capsys.readouterr().out.splitlines()
    assert len(notes) == len(expected.notes), notes
    for note, words in zip(notes, expected.notes, strict=True):
        assert re.search(words, note), note


@pytest.mark.parametrize("kind", [hidden_files_at_any_depth, linked_folders_and_circles, images_of_any_name],
                         ids=lambda kind: kind.__name__)  # fmt: skip
def test_predict_and_pack_take_the_images_that_a_data_set_has(root, kind: Callable[[Path], Expected], tmp_path, capsys):
    expected = kind(root)
    train = opened(root).split("train")
    left_out = LeftOut()
    files = image_files([str(root / name) for name in expected.splits["train"]], left_out)
    assert [file.path for file in files] == train.paths
    assert re.search(re.sub("[0-9]+", "[0-9]+", expected.notes[0]).split(r"\(")[0], left_out.note())
    capsys.readouterr()
    pack(DataConfig(f"folder:{root}", eval_split="none"), tmp_path / "packed", 1 << 20)
    assert len(capsys.readouterr().out.splitlines()) == 2  # the note, and where it is packed
    assert counts(open_dataset(DataConfig(f"records:{tmp_path / 'packed'}", eval_split="none"))) == expected.splits


# Folders that say too little


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"one__cat": 2, "one__dog": 2, "two__cat": 1, "two__dog": 1},
         "the folders of .*photos, one, two, all hold the same folders, cat, dog, and look like splits; call them train,"),
        ({"cat__train": 2, "cat__val": 1, "dog__train": 2},
         "the class folders of .*photos hold splits, train, val; put the classes into the splits, as in train/cat."),
        ({"train": 3, "test": 2}, "photos/train holds no folders, so nothing says what its images show; .*csv:FILE"),
        ({"val__cat": 2, "Test__cat": 2}, "holds splits, Test, val, and none to train on; add a folder train."),
        ({"train__cat": 2, "train__dog": 1, "Train__cat": 1}, "photos/Train and .*/train are both train splits; remove or"),
        ({"train__cat": 2, "train__dog": 1, "val__cat": 1, "dev__cat": 1}, "photos/val and .*/dev are both validation splits"),
        ({"photos__cat": 2, "photos__dog": 2},
         "photos holds 1 class folder; .* Perhaps they are those in .*photos/photos: cat, dog."),
        ({"train__cat": 2, "train__dog": 1, "test__cat": 1, "test__cow": 1},
         "photos/test has a class cow that the training folder lacks; .* --test_split=none leaves all of it out."),
        ({"train__cat": 2, "train__dog": 1, "val__cow": 0}, "photos/val has a class cow"),
    ],
    ids=["the same folders", "splits within classes", "no classes", "no train", "train twice", "validation twice", "a wrapper",
         "an unknown class", "an unknown class without images"],
)  # fmt: skip
def test_what_cannot_be_told_is_a_sentence(root, folders, words):
    several(root, **folders)
    for name in folders:
        (root / name.replace("__", "/")).mkdir(exist_ok=True, parents=True)
    with pytest.raises(exits.BadData, match=words):
        opened(root)


def test_a_folder_of_many_names_opens_no_file_with_a_known_suffix(root, monkeypatch):
    several(root, cat=3)
    write(root, "cat/notes.txt", "cat/a.HEIC", "cat/data.csv")
    monkeypatch.setattr("convoy.data.images.suffixes.open_file", lambda path: pytest.fail(f"{path} was opened"))
    assert len(list(images_below(root, LeftOut()))) == 4


def test_folders_that_link_to_each_other_are_listed_once(root):
    """Each holds links to all others: followed as they stand, these are more paths than could be walked."""
    folders = [root.parent / "pool" / str(number) for number in range(12)]
    for folder in folders:
        several(folder.parent, **{folder.name: 2})
    for folder in folders:
        for other in folders:
            (folder / f"to {other.name}").symlink_to(other)
    several(root, cat=1)
    (root / "cat" / "pool").symlink_to(folders[0])
    assert len(list(images_below(root, LeftOut()))) == 1 + 2 * len(folders)
