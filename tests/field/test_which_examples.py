"""Which examples train, choose and measure: --test_split, --eval_split=stratified, and examples without labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from photo_folders import BMP, PNG, counts, opened, several, write

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet
from convoy.data.sources.opening import open_dataset

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
