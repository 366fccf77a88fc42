"""Sources: right images and labels, splits by content, and a sentence for everything that is wrong with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory
from convoy.data.sources.opening import open_dataset
from convoy.data.splits import by_hash, resolve, train_and_eval
from support import write_images


def pixels(examples) -> np.ndarray:
    fetch = tf.function(examples.fetcher(), autograph=False)
    return fetch(tf.range(len(examples), dtype=tf.int64), None)[0].numpy()


def test_digits_are_the_real_ones():
    dataset = open_dataset(DataConfig())
    train, test = dataset.split("train"), dataset.split("test")
    assert len(train) + len(test) == 1797
    assert 300 < len(test) < 420
    assert dataset.image_shape == (8, 8, 1)
    assert pixels(train).max() == 255
    assert set(train.labels) == set(test.labels) == set(range(10))


def test_equal_images_never_stand_on_both_sides_of_a_split():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (200, 4, 4, 1), dtype=np.uint8)
    examples = InMemory(np.concatenate([images, images[::-1]]), np.arange(400) % 3)
    rest, held_out = by_hash(examples, 0.3, "eval")
    assert len(rest) + len(held_out) == 400
    assert 60 < len(held_out) < 180
    assert {image.tobytes() for image in rest.images}.isdisjoint({image.tobytes() for image in held_out.images})


def test_a_split_of_a_split_does_not_follow_the_first_border():
    images = np.random.default_rng(0).integers(0, 256, (2000, 4, 4, 1), dtype=np.uint8)
    rest, _ = by_hash(InMemory(images, np.zeros(2000)), 0.2, "test")
    _, second = by_hash(rest, 0.1, "eval")
    assert 110 < len(second) < 220  # 160 expected; none if both used the same hash


def test_splits_do_not_depend_on_the_image_size():
    small, large = (train_and_eval(resolved(size), open_dataset(resolved(size))) for size in (0, 16))
    assert np.array_equal(small[0].labels, large[0].labels)
    assert np.array_equal(small[1].labels, large[1].labels)


def resolved(size: int) -> DataConfig:
    return DataConfig(image_size=size, eval_split="hash:0.1")


def test_the_validation_split_chooses_the_best_where_there_is_one(tmp_path):
    for split in ("train", "val", "test"):
        write_images(tmp_path / split, ("a", "b"), 3, first=len(split))
    config = DataConfig(dataset=f"folder:{tmp_path}", image_size=8)
    dataset = open_dataset(config)
    assert dataset.split_names == ("train", "validation", "test")
    assert resolve(config, dataset).eval_split == "validation"
    assert resolve(DataConfig(), open_dataset(DataConfig())).eval_split == "hash:0.1"


def test_a_folder_is_decoded_right_in_memory_and_as_it_is_drawn(photographs):
    from PIL import Image

    in_memory = open_dataset(DataConfig(dataset=f"folder:{photographs}")).split("train")
    drawn = open_dataset(DataConfig(dataset=f"folder:{photographs}", cache_bytes=0)).split("train")
    assert np.array_equal(pixels(in_memory), pixels(drawn))
    assert np.array_equal(in_memory.labels, [0] * 12 + [1] * 12)
    png = np.asarray(Image.open(photographs / "cat" / "001.png"))
    assert np.array_equal(pixels(in_memory)[1], png)


def test_real_photographs_are_resized_and_cropped(tmp_path):
    from support import DATA

    sample = DATA / "imagenet-sample"
    if not sample.is_dir():
        pytest.skip(f"no photographs in {sample} (CONVOY_TEST_DATA)")
    for index, path in enumerate(sorted(sample.iterdir())[:12]):
        folder = tmp_path / f"class{index % 2}"
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{path.stem}.jpeg")
    dataset = open_dataset(DataConfig(dataset=f"folder:{tmp_path}", image_size=64))
    images = pixels(dataset.split("train"))
    assert images.shape == (12, 64, 64, 3)
    assert all(image.std() > 10 for image in images)


def test_a_random_part_of_an_image_in_memory_is_that_of_scipy():
    from convoy.data.images.crop_geometry import NUMBERS, random_windows
    from convoy.data.order import PositionRanges

    images = np.random.default_rng(3).integers(0, 256, (30, 20, 16, 3), dtype=np.uint8)
    positions = PositionRanges([(tf.constant(50, tf.int64), 30)], 4)
    parts, valid, _ = InMemory(images, np.zeros(30)).fetcher(0.1)(tf.range(30, dtype=tf.int64), positions)
    assert valid.numpy().all()
    sides = tf.fill([30], 20), tf.fill([30], 16)
    windows = random_windows(positions.uniforms(NUMBERS, "resized"), *sides, 0.1).numpy()
    assert len(np.unique(windows, axis=0)) > 20
    for image, (top, left, tall, wide), found in zip(images, windows, parts.numpy(), strict=True):
        rows = top + (np.arange(20) + 0.5) * tall / 20 - 0.5
        columns = left + (np.arange(16) + 0.5) * wide / 16 - 0.5
        places = np.meshgrid(rows, columns, indexing="ij")
        for channel in range(3):
            expected = ndimage.map_coordinates(image[..., channel].astype(float), places, order=1, mode="nearest")
            assert np.abs(found[..., channel] - expected).max() <= 0.51


@pytest.mark.slow
def test_cifar10_is_read_whole(cifar10):
    dataset = open_dataset(DataConfig(dataset="cifar10", data_dir=str(cifar10)))
    test = dataset.split("test")
    assert len(test) == 10_000
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert dataset.class_names[3] == "cat"
    assert dataset.image_shape == (32, 32, 3)


def test_synthetic_is_the_same_every_time():
    config = DataConfig(dataset="synthetic:6x5x3:4:30")
    first, second = (open_dataset(config).split("train") for _ in range(2))
    assert first.images.shape == (30, 6, 5, 3)
    assert np.array_equal(first.images, second.images)
    assert len(open_dataset(config).split("test")) == 6


def broken(root, kind):
    if kind == "empty class":
        (root / "bird").mkdir()
    elif kind == "truncated":
        path = root / "dog" / "004.jpg"
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "text named png":
        (root / "cat" / "001.png").write_text("this is no image")
    elif kind == "other size":
        from PIL import Image

        Image.new("RGB", (9, 9)).save(root / "dog" / "002.jpg")
    elif kind == "one class":
        shutil.rmtree(root / "dog")
    elif kind == "broken link":
        (root / "dog" / "zzz.jpg").symlink_to("nowhere.jpg")
    elif kind == "two validation splits":
        shutil.copytree(root, root / "train")
        shutil.copytree(root / "train", root / "val")
        shutil.copytree(root / "train", root / "validation")
    elif kind == "unknown class in test":
        shutil.copytree(root, root / "train")
        write_images(root / "test", ("cat", "cow"), 2)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty class", ["bird", "no image"]),
        ("truncated", ["dog/004.jpg", "cannot be decoded"]),
        ("text named png", ["cat/001.png", "cannot be decoded"]),
        ("other size", ["dog/002.jpg", "9x9", "20x24", "--image_size"]),
        ("one class", ["at least two"]),
        ("broken link", ["dog/zzz.jpg", "cannot be read: no such file"]),
        ("two validation splits", ["validation", "val are both", "merge"]),
        ("unknown class in test", ["cow", "cat, dog"]),
    ],
)
def test_a_bad_folder_is_named(photographs, kind, words):
    broken(photographs, kind)
    with pytest.raises(exits.BadData) as error:
        pixels(open_dataset(DataConfig(dataset=f"folder:{photographs}")).split("train"))
    assert all(word in str(error.value) for word in words), error.value


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path, ("bus", "train"), 3)
    assert open_dataset(DataConfig(dataset=f"folder:{tmp_path}", image_size=8)).class_names == ("bus", "train")


def test_a_test_split_may_lack_a_class(tmp_path):
    write_images(tmp_path / "train", ("a", "b"), 3)
    write_images(tmp_path / "test", ("b",), 2)
    dataset = open_dataset(DataConfig(dataset=f"folder:{tmp_path}", image_size=8))
    assert dataset.split("test").labels.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["cifar1O", "imagenete", "dijits"])
def test_a_typo_in_a_name_suggests_the_near_one(name, tmp_path):
    with pytest.raises(exits.CannotRun, match="did you mean (cifar10|imagenette|digits)"):
        open_dataset(DataConfig(dataset=name, data_dir=str(tmp_path)))


@pytest.mark.parametrize(("label", "shown"), [(-1, "-1"), (3, "3")])
def test_a_label_out_of_range_is_named(label, shown):
    examples = InMemory(np.zeros((4, 2, 2, 1)), np.array([0, 1, label, 2]))
    dataset = DataSet("mine", ("a", "b", "c"), (2, 2, 1), {"train": lambda: examples})
    with pytest.raises(exits.BadData, match=f"example 2 .* has label {shown}"):
        dataset.split("train")


def test_a_missing_split_lists_those_there_are():
    with pytest.raises(exits.CannotRun, match="no split validation; it has train, test"):
        open_dataset(DataConfig()).split("validation")


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"dataset": ""}, "--dataset="),
        ({"dataset": "folder:"}, "folder:PATH"),
        ({"dataset": "synthetic:8x8:10:5"}, "--dataset=synthetic:8x8:10:5"),
        ({"eval_split": "train"}, "--eval_split=train"),
        ({"eval_split": "hash:1.5"}, "--eval_split=hash:1.5"),
        ({"eval_split": "hash:0"}, "--eval_split=hash:0"),
        ({"image_size": -1}, "--image_size=-1"),
        ({"augment": "mixop"}, "--augment=mixop"),
        ({"max_bad_fraction": 2.0}, "--max_bad_fraction=2"),
        ({"cache_bytes": -1}, "--cache_bytes=-1"),
    ],
)
def test_an_impossible_value_names_its_flag(values, flag):
    with pytest.raises(exits.CannotRun, match="--") as error:
        DataConfig(**values)
    assert flag in str(error.value)


def test_a_line_break_in_a_path_is_refused():
    with pytest.raises(exits.CannotRun, match="--data_dir holds a line break"):
        DataConfig(data_dir="a\nb")
