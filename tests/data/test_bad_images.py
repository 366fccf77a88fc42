"""Images that cannot be read: named, counted once, left out or replaced, and no other position moves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.unreadable import BadImages
from convoy.data.pipeline import BatchSharding, evaluation_batches, training_stream
from convoy.data.sources import catalogue
from convoy.data.sources.opening import open_dataset
from support import result_of, write_images

pytestmark = pytest.mark.slow

N = 24
TEXT, CUT, LAST = 1, 16, 23  # cat/001.png, dog/004.jpg, dog/011.png
STREAMED, HELD = 0, 1 << 30  # --cache_bytes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def damaged(photographs: Path) -> Path:
    """A header that is none, and two files that break off behind a good one; `clean` beside it has them whole."""
    shutil.copytree(photographs, photographs.parent / "clean")
    (photographs / "cat" / "001.png").write_text("this is no image")
    for name in ("004.jpg", "011.png"):
        path = photographs / "dog" / name
        path.write_bytes(path.read_bytes()[:-150])
    return photographs


def config(root: Path, policy: str, cache_bytes: int, augment: str = "none", most: float = 0.2) -> DataConfig:
    return DataConfig(f"folder:{root}", image_size=16, augment=augment, bad_images=policy, max_bad_fraction=most,
                      cache_bytes=cache_bytes)  # fmt: skip


def train(config: DataConfig, batch_size: int = 12, steps: int = 4, first_step: int = 0) -> tuple[np.ndarray, ...]:
    """(images, labels, shares, examples) of the positions of some steps."""
    examples = open_dataset(config).split("train")
    stream = training_stream(examples, BatchSharding(batch_size), config, 5, first_step * batch_size)
    assert stream.element_spec.images.shape == (batch_size, 16, 16, 3)
    batches = list(stream.take(steps).as_numpy_iterator())
    from convoy.data.order import indices

    positions = tf.range(first_step * batch_size, (first_step + steps) * batch_size, dtype=tf.int64)
    fields = [np.concatenate([np.asarray(batch[field]) for batch in batches]) for field in range(3)]
    return fields[0], fields[1][:, 0], fields[2][:, 0], indices(positions, N, 5).numpy()


@pytest.mark.parametrize("augment", ["none", "resized:0.3"])
@pytest.mark.parametrize("cache_bytes", [STREAMED, HELD])
def test_a_bad_image_does_not_count_and_moves_nothing(damaged, cache_bytes, augment):
    images, labels, shares, shown = train(config(damaged, "skip", cache_bytes, augment))
    clean, clean_labels, clean_shares, _ = train(config(damaged.parent / "clean", "fail", cache_bytes, augment))
    # A part of a broken file that lies before the break can be read.
    unread = shares == 0
    assert np.isin(shown[unread], [TEXT, CUT, LAST]).all()
    assert unread[shown == TEXT].all()
    if augment == "none":
        assert np.array_equal(unread, np.isin(shown, [TEXT, CUT, LAST]))
    assert clean_shares.all()
    assert np.array_equal(labels, clean_labels)
    assert not images[unread].any()
    assert np.array_equal(images[~unread], clean[~unread])


@pytest.mark.parametrize("cache_bytes", [STREAMED, HELD])
def test_a_substitute_brings_its_own_label(damaged, cache_bytes):
    images, labels, shares, shown = train(config(damaged, "substitute", cache_bytes))
    clean, clean_labels, _, _ = train(config(damaged.parent / "clean", "fail", cache_bytes))
    first = {int(index): position for position, index in reversed(list(enumerate(shown)))}
    assert shares.all()
    for position, index in enumerate(shown):
        there = {TEXT: TEXT + 1, CUT: CUT + 1, LAST: 0}.get(int(index), int(index))
        assert np.array_equal(images[position], clean[first[there]])
        assert labels[position] == clean_labels[first[there]]
    assert labels[first[LAST]] != clean_labels[first[LAST]]  # the next one after the last is of the first class


@pytest.mark.parametrize("policy", ["skip", "substitute"])
def test_the_same_position_shows_the_same_in_other_batches_and_after_a_resume(damaged, policy):
    here = config(damaged, policy, STREAMED, "photo")
    whole, fine = train(here, batch_size=24, steps=2), train(here, batch_size=4, steps=9, first_step=3)
    assert all(np.array_equal(one[12:], other) for one, other in zip(whole, fine, strict=True))


@pytest.mark.parametrize("policy", ["skip", "substitute"])
@pytest.mark.parametrize("cache_bytes", [STREAMED, HELD])
def test_an_evaluation_leaves_out_exactly_the_bad_ones(damaged, policy, cache_bytes):
    dataset = open_dataset(config(damaged, policy, cache_bytes))
    examples = dataset.split("train")
    assert examples.unreadable().tolist() == [TEXT, CUT, LAST]
    weights = [weights for _, _, weights in evaluation_batches(examples, 10).as_numpy_iterator()]
    assert np.flatnonzero(np.concatenate(weights)).tolist() == sorted({*range(N)} - {TEXT, CUT, LAST})
    assert len(dataset.bad) == 3
    part = examples.select(np.array([CUT, 3, 4, TEXT]))
    assert part.unreadable().tolist() == [0, 3]


@pytest.mark.parametrize("cache_bytes", [STREAMED, HELD])
def test_without_being_asked_the_first_bad_image_ends_the_run_by_name(damaged, cache_bytes):
    with pytest.raises(exits.BadData, match=r"cat/001\.png cannot be decoded: it is no JPEG.*--bad_images=skip"):
        open_dataset(config(damaged, "fail", cache_bytes)).split("train")
    shutil.copy(damaged.parent / "clean" / "cat" / "001.png", damaged / "cat" / "001.png")
    examples = open_dataset(config(damaged, "fail", cache_bytes)).split("train")
    if cache_bytes == HELD:
        with pytest.raises(exits.BadData, match="dog/004.jpg cannot be decoded"):
            examples.fetcher()
    else:
        stream = training_stream(examples, BatchSharding(N), config(damaged, "fail", STREAMED), 5, 0)
        with pytest.raises(tf.errors.OpError):
            next(stream.as_numpy_iterator())
        assert "dog/004.jpg cannot be decoded" in examples.explain()


def test_too_many_end_the_run(damaged):
    streamed = open_dataset(config(damaged, "skip", STREAMED, most=0.1))
    examples = streamed.split("train")  # one of 24 is known to be bad by its header
    streamed.bad.check()
    stream = training_stream(examples, BatchSharding(N), config(damaged, "skip", STREAMED), 5, 0)
    with pytest.raises(tf.errors.OpError):
        next(stream.as_numpy_iterator())
    assert "3 of 24 images of the split train are bad, more than --max_bad_fraction=0.1" in examples.explain()
    with pytest.raises(exits.BadData, match="3 of 24 images"):
        open_dataset(config(damaged, "skip", HELD, most=0.1)).split("train").fetcher()


def test_each_is_listed_once_also_by_a_later_attempt(damaged):
    lines: list[str] = []
    for _ in range(2):
        here = config(damaged, "substitute", STREAMED)
        dataset = open_dataset(here)
        dataset.bad.list_in(lines.append, [json.loads(line) for line in lines])
        list(training_stream(dataset.split("train"), BatchSharding(12), here, 5, 0).take(6).as_numpy_iterator())
        assert len(dataset.bad) == 3
    found = {one["path"].removeprefix(f"{damaged}/"): one for one in map(json.loads, lines)}
    assert len(lines) == len(found) == 3
    assert found.keys() == {"cat/001.png", "dog/004.jpg", "dog/011.png"}
    assert all(one["split"] == "train" and one["reason"].startswith("cannot be decoded: ") for one in found.values())


def test_max_bad_fraction_counts_files_not_encounters():
    bad = BadImages("skip", 0.5)
    bad.expect("train", 4)
    for path in ("a", "b", "a", "a"):
        bad.add("train", path, "cannot be read")
    bad.check()
    bad.add("train", "c", "cannot be read")
    with pytest.raises(exits.BadData, match="3 of 4"):
        bad.check()


def test_headers_are_read_once_and_again_after_a_change(damaged, monkeypatch):
    looked: list[str] = []
    monkeypatch.setattr(
        catalogue, "look", lambda path, hashed, look=catalogue.look: looked.append(path) or look(path, hashed)
    )

    def names() -> list[str]:
        looked.clear()
        open_dataset(config(damaged, "skip", STREAMED))
        return sorted(path.removeprefix(f"{damaged}/") for path in looked)

    assert len(names()) == N
    assert names() == ["cat/001.png"], "a header that cannot be read is: a decoder may have been installed"
    cache = next((damaged.parent / "cache" / "convoy" / "folders").iterdir())
    assert cache.stat().st_size < 2000 + 60 * N
    shutil.copy(damaged.parent / "clean" / "cat" / "001.png", damaged / "cat" / "001.png")
    (damaged / "cat" / "000.jpg").rename(damaged / "cat" / "zzz.jpg")
    assert names() == ["cat/001.png", "cat/zzz.jpg"]
    cache.write_bytes(cache.read_bytes()[:100])
    assert len(names()) == N
    cache.unlink()
    cache.mkdir()  # cannot be written
    assert len(names()) == len(names()) == N


def test_a_run_counts_and_lists_them(convoy, tmp_path):
    write_images(tmp_path / "images" / "train", ("cat", "dog"), each=12)
    write_images(tmp_path / "images" / "test", ("cat", "dog"), each=6, first=7)
    bad = [tmp_path / "images" / name for name in ("train/cat/002.jpg", "test/dog/003.png")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-150])
    done = convoy("train", f"--dataset=folder:{tmp_path}/images", "--batch_size=8", "--duration=2ep", "--image_size=16",
                  "--eval_split=none", "--cache_bytes=0", "--run_dir=run", "--bad_images=skip",
                  "--max_bad_fraction=0.1")  # fmt: skip
    assert done.code == exits.OK, done
    assert result_of(tmp_path / "run")["bad_images"] == 2
    assert result_of(tmp_path / "run")["eval"]["examples"] == 11
    lines = (tmp_path / "run" / "bad_images.jsonl").read_text().splitlines()
    assert {json.loads(line)["path"] for line in lines} == {str(path) for path in bad}


def test_damage_outside_the_evaluated_part_is_named_too(tmp_path):
    """The centre of a tall image can be read, its lowest part cannot."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(generator.integers(0, 255, (400, 40, 3), dtype=np.uint8)).save(tmp_path / name / "0.jpg")
    broken = tmp_path / "b" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 3 // 4])
    here = DataConfig(f"folder:{tmp_path}", image_size=16, augment="photo", cache_bytes=0)
    examples = open_dataset(here).split("train")
    assert len(examples.unreadable()) == 0
    with pytest.raises(tf.errors.OpError):
        for _ in training_stream(examples, BatchSharding(8), here, 5, 0).take(20):
            pass
    assert f"{broken} cannot be decoded" in examples.explain()


def test_random_parts_need_no_whole_images_in_memory(photographs):
    here = config(photographs, "fail", HELD, "photo")
    examples = open_dataset(here).split("train")
    next(training_stream(examples, BatchSharding(4), here, 5, 0).as_numpy_iterator())
    assert examples._decoded is None


def test_a_pipe_among_the_images_is_skipped_and_not_waited_for(photographs):
    (photographs / "cat" / "000.jpg").unlink()
    os.mkfifo(photographs / "cat" / "000.jpg")
    examples = open_dataset(config(photographs, "skip", HELD)).split("train")
    assert examples.unreadable().tolist() == [0]
    assert len(examples.content_hashes()) == N


def test_classes_of_the_current_folder_do_not_share_headers(tmp_path, monkeypatch):
    """a/1.bmp and b/1.bmp of the same length and time, one lying and one standing."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name, size in (("a", (12, 8)), ("b", (8, 12))):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "1.bmp"
        Image.new("RGB", size).save(path)
        path.write_bytes(path.read_bytes().ljust(400, b"\0"))
        os.utime(path, (5, 5))
    for _ in range(2):  # the second time from the cache
        found = catalogue.Catalogue.scan(Path(), ["a/1.bmp", "b/1.bmp"]).entries
        assert [catalogue.upright(entry) for entry in found] == [(8, 12), (12, 8)]


def test_a_corrupt_catalogue_is_read_anew(photographs):
    """Also where zipfile takes it for encrypted, or for compressed by what it does not know."""
    open_dataset(config(photographs, "fail", STREAMED))
    cache = next((photographs.parent / "cache" / "convoy" / "folders").iterdir())
    content = cache.read_bytes()
    entry = content.index(b"PK\1\2")  # of the archive's directory; versions, flags and method follow
    for bit in range(8 * (entry + 4), 8 * (entry + 12)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        cache.write_bytes(flipped)
        assert len(open_dataset(config(photographs, "fail", STREAMED)).split("train")) == N
        assert cache.read_bytes()[:entry] == content[:entry], "it is made anew, or was whole enough"


def test_without_a_home_there_is_no_list_of_headers(photographs, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for _ in range(2):
        assert len(open_dataset(config(photographs, "fail", STREAMED)).split("train")) == N
