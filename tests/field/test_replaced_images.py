"""An image that is replaced under a run is a bad image: a batch has the image of the header that was read, or none."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.probe import look
from convoy.data.order import indices
from convoy.data.pipeline import BatchSharding, evaluation_batches, training_stream
from convoy.data.records.originals import original
from convoy.data.sources import watch
from convoy.data.sources.files import Files
from convoy.data.sources.opening import open_dataset

STREAMED, HELD = 0, 1 << 30  # --cache_bytes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def image(format: str, width: int, height: int, orientation: int = 0, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng((width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).convert(mode).save(
        file, format, exif=exif, **({"lossless": True} if format == "WEBP" else {})
    )
    return file.getvalue()


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# The file when its header was read, and the file when it is drawn.
REPLACED = {
    **{f"{format}, larger": (image(format, 20, 24), image(format, 40, 48)) for format in FORMATS},
    **{f"{format}, swapped": (image(format, 20, 24), image(format, 24, 20)) for format in FORMATS},
    "JPEG, turned": (image("JPEG", 20, 24, 1), image("JPEG", 20, 24, 6)),
    "WEBP, mirrored": (image("WEBP", 20, 24, 1), image("WEBP", 20, 24, 2)),
    "JPEG to CMYK": (image("JPEG", 20, 24), image("JPEG", 20, 24, mode="CMYK")),
    "PNG to JPEG": (image("PNG", 20, 24), image("JPEG", 20, 24)),
    "BMP to turned JPEG": (image("BMP", 20, 24), image("JPEG", 24, 20, 6)),
    "PNG to text": (image("PNG", 20, 24), b"this is no image"),
    "JPEG to nothing": (image("JPEG", 20, 24), b""),
}
# With the same length and time, too, only decoding shows the replacement.
ALIKE = {f"{format}, alike" for format in FORMATS}
REPLACED |= {f"{format}, alike": REPLACED[f"{format}, swapped"] for format in FORMATS}
NAMES = list(REPLACED)
N = 2 * len(NAMES)  # each second one stays as it is


def write(root: Path) -> None:
    for number, (then, now) in enumerate(REPLACED.values()):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.jpg").write_bytes(then.ljust(max(len(then), len(now)), b"\0"))
        (folder / f"{number:03d}-stays.jpg").write_bytes(image("JPEG", 30, 31 + number))


def replace(examples: Files) -> dict[int, str]:
    """Replaces one image in each of these ways: row -> name of the way."""
    rows = {}
    for number, (name, (then, now)) in enumerate(REPLACED.items()):
        path = next(path for path in examples.paths if path.endswith(f"/{number:03d}.jpg"))
        rows[examples.paths.index(path)] = name
        before = os.stat(path)
        alike = name in ALIKE
        Path(path).write_bytes(now.ljust(max(len(then), len(now)) if alike else 0, b"\0"))
        os.utime(path, ns=(0, before.st_mtime_ns + (0 if alike else 1_000_000_000)))
    return rows


def config(root: Path, policy: str, augment: str = "none", cache_bytes: int = STREAMED) -> DataConfig:
    return DataConfig(f"folder:{root}", image_size=8, augment=augment, bad_images=policy, max_bad_fraction=1.0,
                      cache_bytes=cache_bytes, eval_split="none")  # fmt: skip


@pytest.mark.parametrize("augment", ["none", "resized:0.4"])
def test_every_kind_of_replacement_is_noticed_when_drawn(tmp_path, augment):
    write(tmp_path)
    here = config(tmp_path, "skip", augment)
    dataset = open_dataset(here)
    examples = dataset.split("train")
    stream = training_stream(examples, BatchSharding(N), here, 5, 0)
    intact = next(stream.as_numpy_iterator())
    assert np.asarray(intact.label_weights)[:, 0].all()
    replaced = replace(examples)
    batch = next(stream.as_numpy_iterator())
    shown = indices(tf.range(N, dtype=tf.int64), N, 5).numpy()
    counted = {int(row): bool(share) for row, share in zip(shown, np.asarray(batch.label_weights)[:, 0], strict=True)}
    assert {name for row, name in replaced.items() if counted[row]} == set(), "drawn as if nothing had happened"
    kept = np.array([row not in replaced for row in shown])
    assert all(counted[row] for row in shown[kept])
    assert np.array_equal(batch.images[kept], intact.images[kept])
    assert not batch.images[~kept].any()
    for row, name in replaced.items():
        reason = dataset.bad.reason("train", examples.paths[row])
        if name in ("PNG to text", "JPEG to nothing"):
            assert reason.startswith("cannot be decoded: it is no JPEG, PNG,"), name
        else:
            assert reason.startswith("has changed since its header was read: it was "), name
    turned = next(examples.paths[row] for row, name in replaced.items() if name == "JPEG, turned")
    length = len(REPLACED["JPEG, turned"][0])
    assert dataset.bad.reason("train", turned) == (
        f"has changed since its header was read: it was JPEG of 20x24 pixels, {length:,} bytes, and is JPEG of 20x24 pixels,"
        f" turned by EXIF's 6, {length:,} bytes"
    )


@pytest.mark.parametrize("cache_bytes", [STREAMED, HELD])
def test_an_evaluation_leaves_replaced_images_out(tmp_path, cache_bytes):
    write(tmp_path)
    dataset = open_dataset(config(tmp_path, "skip", cache_bytes=cache_bytes))
    examples = dataset.split("train")
    if cache_bytes == STREAMED:
        assert len(examples.unreadable()) == 0  # all are read once, before the first evaluation
    replaced = replace(examples)
    if cache_bytes == STREAMED:  # these are not read again as files, and would end the stream below
        for row in [row for row, name in replaced.items() if name in ALIKE]:
            Path(examples.paths[row]).unlink()
    assert examples.unreadable().tolist() == sorted(replaced)
    weights = [weights for _, _, weights in evaluation_batches(examples, 10).as_numpy_iterator()]
    assert np.flatnonzero(np.concatenate(weights)).tolist() == sorted({*range(N)} - replaced.keys())
    if cache_bytes == STREAMED:
        stream = evaluation_batches(examples, 10)
        changed = next(path for row, path in enumerate(examples.paths) if row not in replaced)
        Path(changed).write_bytes(image("JPEG", 50, 50))
        with pytest.raises(tf.errors.OpError):
            list(stream.as_numpy_iterator())
        assert examples.explain().startswith(
            f"the image {changed} has changed since its header was read: it was JPEG of 30x"
        )


def test_another_image_substitutes_for_a_replaced_one(photographs):
    here = config(photographs, "substitute")
    examples = open_dataset(here).split("train")
    stream = training_stream(examples, BatchSharding(24), here, 5, 0)
    before = next(stream.as_numpy_iterator())
    (photographs / "cat" / "003.png").write_bytes(image("PNG", 24, 20))
    after = next(stream.as_numpy_iterator())
    shown = indices(tf.range(24, dtype=tf.int64), 24, 5).numpy().tolist()
    assert np.asarray(after.label_weights)[:, 0].all()
    assert np.array_equal(after.images[shown.index(3)], before.images[shown.index(4)])


@pytest.mark.parametrize(
    "name",
    [
        "JPEG, alike",
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("JPEG, swapped", "JPEG, turned", "PNG to JPEG")),
    ],
)
def test_by_default_a_replaced_image_ends_the_run_and_is_named(tmp_path, name):
    write(tmp_path)
    here = config(tmp_path, "fail", "photo")
    examples = open_dataset(here).split("train")
    stream = training_stream(examples, BatchSharding(N), here, 5, 0)
    next(stream.as_numpy_iterator())
    path = Path(examples.paths[next(row for row, way in replace(examples).items() if way == name)])
    content, status = path.read_bytes(), path.stat()
    write(tmp_path)  # the others get new times only
    path.write_bytes(content)
    os.utime(path, ns=(0, status.st_mtime_ns))
    with pytest.raises(tf.errors.OpError):
        next(stream.as_numpy_iterator())
    sentence = examples.explain()
    assert sentence.startswith(f"the image {path} ")
    assert "has changed since its header was read: it was " in sentence
    with pytest.raises(exits.BadData):
        examples.bad.check()


def test_a_new_modification_time_alone_changes_nothing(photographs):
    here = config(photographs, "fail", "photo")
    examples = open_dataset(here).split("train")
    stream = training_stream(examples, BatchSharding(24), here, 5, 0)
    before = next(stream.as_numpy_iterator())
    for path in examples.paths[:5]:
        os.utime(path, (7, 7))
    for _ in range(2):
        assert np.array_equal(next(stream.as_numpy_iterator()).images, before.images)
    examples.bad.check()


def test_a_file_with_a_new_modification_time_is_looked_at_once_more(photographs, monkeypatch):
    # Threads that draw it at the same time may look twice, so only this one does.
    examples = open_dataset(config(photographs, "fail", "photo")).split("train")
    here, looked = watch.Watch(examples.paths, examples.headers.copy()), []
    monkeypatch.setattr(watch, "look", lambda path: looked.append(path) or look(path))
    for path in examples.paths[:5]:
        os.utime(path, (7, 7))
    for _ in range(2):
        assert not here.changes(np.arange(len(examples)))
        assert looked == examples.paths[:5]


def test_a_replaced_image_is_not_packed(photographs):
    examples = open_dataset(config(photographs, "fail")).split("train")
    path = photographs / "cat" / "000.jpg"
    path.write_bytes(image("JPEG", 24, 20))
    with pytest.raises(exits.BadData, match=r"cat/000\.jpg: it has changed since its header was read; "):
        original(str(path), examples.headers[0], 0)
