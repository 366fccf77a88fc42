"""Folders as cameras, archives, file systems and people leave them: the right classes and counts, and one note on the rest."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.listing import image_files
from convoy.data.images.walk import LeftOut, images_below
from convoy.data.records.packing import pack
from convoy.data.sources.examples import DataSet
from convoy.data.sources.opening import open_dataset


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 90, 10)).save(file, format)
    return file.getvalue()


JPEG, PNG, BMP = encoded("JPEG"), encoded("PNG"), encoded("BMP")
PREDICT = "which `convoy predict` is for"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "photos"


def write(root: Path, *names: str, content: bytes = JPEG) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def several(root: Path, **counts: int) -> None:
    """cat=3: cat/0.jpg to cat/2.jpg; __ stands for a slash."""
    for folder, count in counts.items():
        write(root, *(f"{folder.replace('__', '/')}/{number}.jpg" for number in range(count)))


def opened(root: Path, **flags: object) -> DataSet:
    return open_dataset(DataConfig(f"folder:{root}", **{"image_size": 8, "eval_split": "none", **flags}))


def counts(dataset: DataSet) -> dict[str, dict[str, int]]:
    """Split -> class -> images."""
    names, splits = dataset.class_names, {split: dataset.split(split) for split in dataset.split_names}
    return {
        split: dict(zip(names, np.bincount(examples.labels, minlength=len(names)).tolist(), strict=True))
        for split, examples in splits.items()
    }


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


# --test_split


def test_none_leaves_the_test_split_alone(root):
    several(root, train__cat=20, train__dog=20, test__cow=1, test__cat=1)
    dataset = opened(root, test_split="none")
    assert dataset.split_names == ("train",)


def test_what_a_finished_run_is_measured_on(root):
    from convoy.data.opening import open_splits

    several(root, train__cat=2, train__dog=2, val__cat=1, test__dog=1)
    write(root, *(f"train/cat/{number}.bmp" for number in range(9)), content=BMP)

    def final(**flags: str) -> tuple[str, str, int]:
        config = DataConfig(f"folder:{root}", image_size=8, **flags)
        splits = open_splits(config)
        name, examples = splits.final
        return splits.config.eval_split, name, len(examples)

    assert final() == ("validation", "test", 1)
    assert final(test_split="none") == ("validation", "validation", 1)
    assert final(test_split="validation", eval_split="none") == ("none", "validation", 1)
    assert final(test_split="validation", eval_split="stratified:0.4")[:2] == ("stratified:0.4", "validation")
    assert DataConfig(test_split="validation").resolved(("train", "validation")).eval_split == "hash:0.1"
    with pytest.raises(exits.CannotRun, match="has no split holdout; it has train, validation, test"):
        final(test_split="holdout")
    shutil.rmtree(root / "test" / "dog")
    several(root, test=1)
    assert final()[1] == "validation"
    with pytest.raises(exits.CannotRun, match="the split test of .* has no labels, .*`convoy predict`"):
        final(test_split="test")


def test_a_test_split_that_was_left_alone_can_be_measured_later(monkeypatch):
    from convoy.trainer import evaluation
    from convoy.trainer.config import RunConfig

    class Built(Exception):
        """What would be measured."""

    def build(config: RunConfig, *how: object, **options: object) -> None:
        raise Built(config.data.test_split)

    monkeypatch.setattr(evaluation, "select", lambda *which: (None, {}, None))
    monkeypatch.setattr(evaluation, "build", build)
    trained = RunConfig(data=DataConfig("folder:photos", test_split="none"))
    for split, expected in {"test": "auto", "eval": "none"}.items():
        with pytest.raises(Built, match=expected):
            evaluation.measure(trained, None, "last", split, None, False)


@pytest.mark.parametrize("name", ["", "train"])
def test_a_run_is_not_measured_on_what_it_learned(name):
    with pytest.raises(exits.CannotRun, match=f"--test_split={name} is not possible"):
        DataConfig(test_split=name)


# --eval_split=stratified


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


def data_set(images: np.ndarray, labels: np.ndarray) -> DataSet:
    from convoy.data.sources.in_memory import InMemory

    names = tuple(f"class{label}" for label in range(labels.max() + 1))
    return DataSet("mine", names, (4, 4, 1), {"train": lambda: InMemory(images, labels)})


def test_a_class_that_a_hash_takes_from_training_is_named(capsys):
    from convoy.data.splits import train_and_eval

    labels = np.repeat(np.arange(40, dtype=np.int32), 2)
    dataset = data_set(noise(80, 0), labels)
    train, held_out = train_and_eval(DataConfig(eval_split="hash:0.5"), dataset)
    missing = [f"class{label}" for label in range(40) if label not in train.labels]
    assert 2 < len(missing) < 20
    note = capsys.readouterr().out
    assert f"Note: --eval_split=hash:0.5 leaves no example of {', '.join(missing[:8])}" in note
    assert "--eval_split=stratified:0.5 divides each class" in note
    train, held_out = train_and_eval(DataConfig(eval_split="stratified:0.5"), dataset)
    assert np.bincount(train.labels).tolist() == np.bincount(held_out.labels).tolist() == [1] * 40
    assert capsys.readouterr().out == ""


def test_a_stratified_split_has_the_share_of_every_class_and_keeps_equal_images_together():
    from convoy.data.splits import train_and_eval

    labels = np.repeat(np.arange(3, dtype=np.int32), (100, 50, 20))
    images = noise(170, 1)
    images[100:104] = images[:4]  # of two classes
    chosen = []
    for order in (np.arange(170), np.random.default_rng(2).permutation(170)):
        parts = train_and_eval(DataConfig(eval_split="stratified:0.1"), data_set(images[order], labels[order]))
        train, held_out = ({image.tobytes() for image in part.images} for part in parts)
        assert train.isdisjoint(held_out)
        assert len(parts[1]) == 17
        assert np.abs(np.bincount(parts[1].labels) - [10, 5, 2]).max() <= 1
        chosen.append(held_out)
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(
    "text", ["stratified", "stratified:", "stratified:1.5", "stratified:0", "hash", "stratified:0.1x"]
)
def test_an_impossible_fraction_is_refused(text):
    with pytest.raises(
        exits.CannotRun, match="FRACTION with a fraction between 0 and 1, for example (hash|stratified):0.1"
    ):
        DataConfig(eval_split=text)


# The same in a table, and in TFDS


def test_a_table_may_lack_labels_where_nothing_is_learned(root, capsys):
    several(root, cat=4, dog=4, new=3)
    rows = [
        (f"{name}/{number}.jpg", name, "Training" if number else "Dev")
        for name in ("cat", "dog")
        for number in range(4)
    ]
    rows += [(f"new/{number}.jpg", "", "TESTING") for number in range(3)]
    with (root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "split"), *rows])
    dataset = open_dataset(DataConfig(f"csv:{root / 'rows.csv'}", image_size=8))
    assert counts(dataset) == {"train": {"cat": 3, "dog": 3}, "validation": {"cat": 1, "dog": 1}}
    assert "3 files of" in capsys.readouterr().out
    with pytest.raises(exits.CannotRun, match="has no labels"):
        dataset.split("test")


def prepared(data_dir: Path, **labels: list[int]) -> DataConfig:
    """A data set of TFDS, of images of 8x8 pixels: split -> a label each."""
    import tensorflow as tf

    folder, features = data_dir / "mine" / "1.0.0", "tensorflow_datasets.core.features"
    folder.mkdir(parents=True)
    columns = {
        "image": {"pythonClassName": f"{features}.image_feature.Image",
                  "image": {"dtype": "uint8", "shape": {"dimensions": ["8", "8", "3"]}}},
        "label": {"pythonClassName": f"{features}.class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}},
    }  # fmt: skip
    document = {
        "pythonClassName": f"{features}.features_dict.FeaturesDict",
        "featuresDict": {"features": columns},
    }
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    splits = [
        {"name": split, "numBytes": "400", "shardLengths": [str(len(given))], "filepathTemplate": template}
        for split, given in labels.items()
    ]
    (folder / "features.json").write_text(json.dumps(document))
    info = {"name": "mine", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    for split, given in labels.items():
        with tf.io.TFRecordWriter(str(folder / f"mine-{split}.tfrecord-00000-of-00001")) as writer:
            for label in given:
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[PNG])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return DataConfig("mine", data_dir=str(data_dir))


def test_labels_of_minus_one_are_no_labels(tmp_path, capsys):
    config = prepared(tmp_path, train=[0, 1, 1, -1], test=[-1] * 3, validation=[0, 1])
    dataset = open_dataset(config)
    assert counts(dataset) == {"train": {"cat": 1, "dog": 2}, "validation": {"cat": 1, "dog": 1}}
    out = capsys.readouterr().out
    assert "Note: test of mine has no labels and is left out; `convoy predict` says" in out
    assert "Note: 1 of the 4 examples of train of mine have no label and are left out." in out
    with pytest.raises(exits.CannotRun, match="has no labels"):
        dataset.split("test")
