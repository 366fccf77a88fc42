"""RandAugment and TrivialAugment, against Pillow doing what the same random numbers say, one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from convoy.data.augment.augmenter import augmenter
from convoy.data.augment.erase import erase
from convoy.data.augment.geometry import compose, warp
from convoy.data.augment.groups import by_group
from convoy.data.augment.policy import OPERATIONS, policy
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges
from convoy.data.sampler import Sample

N = 300
IMAGES = np.random.default_rng(2).integers(20, 200, (N, 12, 10, 3), dtype=np.uint8)
ENHANCERS = {"brightness": ImageEnhance.Brightness, "color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
             "sharpness": ImageEnhance.Sharpness}  # fmt: skip


def at(first: int, count: int) -> PositionRanges:
    return PositionRanges([(tf.constant(first, tf.int64), count)], 3)


def drawn_by_hand(row: np.ndarray, augment: str) -> tuple[str, float, int]:
    """Operation, share of its strength, sign."""
    name = OPERATIONS[int(row[0] * 14)]
    level = int(row[1] * 31) / 30 if augment == "trivial" else int(augment.split(":")[2]) / 30
    return name, level, -1 if row[2] < 0.5 else 1


def by_pillow(image: np.ndarray, name: str, level: float, sign: int, wide: bool) -> np.ndarray:
    """torchvision's table of RandAugment and TrivialAugmentWide."""
    picture = Image.fromarray(image)
    if name in ENHANCERS:
        picture = ENHANCERS[name](picture).enhance(1 + sign * level * (0.99 if wide else 0.9))
    elif name == "posterize":
        picture = ImageOps.posterize(picture, 8 - round(level * (6 if wide else 4)))
    elif name == "solarize":
        picture = ImageOps.solarize(picture, 255 - round(np.float32(level) * np.float32(255)))  # of whole levels
    elif name in ("autocontrast", "equalize"):
        picture = getattr(ImageOps, name)(picture)
    return np.asarray(picture)


def map_by_hand(name: str, level: float, sign: int, wide: bool) -> np.ndarray:
    amount = sign * level
    shear, turn = amount * (0.99 if wide else 0.3), math.radians(amount * (135 if wide else 30))
    return {
        "shear_x": np.array([[1, shear, 0], [0, 1, 0]]),
        "shear_y": np.array([[1, 0, 0], [shear, 1, 0]]),
        "translate_x": np.array([[1, 0, amount * (32 if wide else 150 / 331 * 10)], [0, 1, 0]]),
        "translate_y": np.array([[1, 0, 0], [0, 1, amount * (32 if wide else 150 / 331 * 12)]]),
        "rotate": np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0]]),
    }.get(name, np.eye(2, 3))


@pytest.mark.parametrize("augment", ["randaugment:1:9", "randaugment:1:30", "trivial"])
def test_one_operation_is_what_pillow_does(augment):
    images, maps = policy(tf.constant(IMAGES), at(1000, N), Recipe.parse(augment))
    numbers = at(1000, N).uniforms(4, "policy").numpy()
    seen = set()
    for before, after, drawn_map, row in zip(IMAGES, images.numpy(), maps.numpy(), numbers, strict=True):
        name, level, sign = drawn_by_hand(row, augment)
        theirs = by_pillow(before, name, level, sign, augment == "trivial")
        assert np.abs(after.astype(int) - theirs).max() <= 1, name
        assert np.abs(drawn_map - map_by_hand(name, level, sign, augment == "trivial")).max() < 1e-5, name
        seen.add(name)
    assert seen == set(OPERATIONS)


def test_operations_come_one_after_the_other():
    exact = {"identity", "posterize", "solarize", "equalize", *OPERATIONS[1:6]}
    images, maps = policy(tf.constant(IMAGES), at(0, N), Recipe.parse("randaugment:3:10"))
    numbers = at(0, N).uniforms(12, "policy").numpy()
    compared = 0
    for before, after, drawn_map, row in zip(IMAGES, images.numpy(), maps.numpy(), numbers, strict=True):
        chain = [drawn_by_hand(part, "randaugment:3:10") for part in np.split(row, 3)]
        total = np.eye(3)
        for name, level, sign in chain:
            before = by_pillow(before, name, level, sign, wide=False)
            total = total @ np.vstack([map_by_hand(name, level, sign, wide=False), [0, 0, 1]])
        assert np.abs(drawn_map - total[:2]).max() < 1e-5
        if exact.issuperset(name for name, *_ in chain):
            assert np.array_equal(after, before)
            compared += 1
    assert compared > 50


def test_every_operation_is_as_frequent():
    numbers = at(0, 14000).uniforms(4, "policy").numpy()
    counts = np.bincount((numbers[:, 0] * 14).astype(int), minlength=14)
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000 * 13 / 14)


def test_composed_maps_do_what_one_after_the_other_does():
    first = tf.constant([[[0.8, -0.3, 2.0], [0.4, 1.1, -1.0]]])
    second = tf.constant([[[1.0, 0.5, -3.0], [0.0, 1.0, 0.25]]])
    place = np.array([1.5, -2.0, 1])
    twice = first[0].numpy() @ [*(second[0].numpy() @ place), 1]
    assert np.allclose(compose(first, second)[0].numpy() @ place, twice, atol=1e-6)
    images = tf.constant(IMAGES[:1])
    right, quarter = tf.constant([[[1.0, 0, -2], [0, 1, 0]]]), tf.constant([[[0.0, 1, 0], [-1, 0, 0]]])
    apart = warp(warp(images[:, :10], right), quarter)
    assert np.array_equal(warp(images[:, :10], compose(right, quarter)), apart)
    assert not np.array_equal(warp(images[:, :10], compose(quarter, right)), apart)


def changed(augment: str, images: np.ndarray = IMAGES, first: int = 0) -> np.ndarray:
    positions = at(first, len(images))
    drawn = Sample(positions.positions, tf.zeros(len(images), tf.int64))
    return augmenter(Recipe.parse(augment))(tf.constant(images), positions, drawn).numpy()


def test_nothing_asked_for_is_nothing_done():
    images = tf.constant(IMAGES)
    with tf.Graph().as_default() as graph:
        inside = tf.compat.v1.placeholder(tf.uint8, IMAGES.shape)
        positions = PositionRanges([(tf.compat.v1.placeholder(tf.int64, []), N)], 3)
        before = len(graph.get_operations())
        assert augmenter(Recipe.parse("none"))(inside, positions, Sample(inside, inside)) is inside
        assert len(graph.get_operations()) == before
    assert np.array_equal(changed("none"), images)


def test_the_parts_of_a_recipe_come_in_order():
    colours = changed("color:0.5")
    assert np.array_equal(changed("color:0.5+crop+flip"), changed("crop+flip", colours))
    cropped = changed("crop+flip")
    assert np.array_equal(changed("crop+flip+rotate:20"), changed("rotate:20", cropped))
    assert np.array_equal(changed("crop+flip+erase:1"), erase(tf.constant(cropped), at(0, N), 1.0))


def test_geometry_of_recipe_and_policy_is_one_map():
    images, maps = policy(tf.constant(IMAGES), at(0, N), Recipe.parse("randaugment:2:9"))
    assert np.array_equal(changed("randaugment:2:9"), warp(images, maps))
    mirrored = changed("flip", IMAGES)
    images, maps = policy(tf.constant(mirrored), at(0, N), Recipe.parse("randaugment:2:9"))
    off = np.abs(changed("randaugment:2:9+flip").astype(int) - warp(images, maps).numpy())
    assert (off > 1).mean() < 1e-3  # sums of mirrored places differ in the last bit


def test_erased_boxes_have_the_papers_sizes():
    flat = np.zeros((2000, 24, 36, 3), np.uint8)
    ours = changed("erase:0.4", flat)
    touched = (ours > 0).any(axis=-1)
    hit = touched.any(axis=(1, 2))
    assert abs(hit.mean() - 0.4) < 5 * math.sqrt(0.24 / 2000)
    rows, columns = touched.any(axis=2).sum(axis=1)[hit], touched.any(axis=1).sum(axis=1)[hit]
    shares, aspects = rows * columns / (24 * 36), rows / columns
    assert 0.012 < shares.min() < 0.03  # sides are whole
    assert 0.31 < shares.max() < 0.36
    assert abs(shares.mean() - (0.02 + 1 / 3) / 2) < 0.02
    assert 0.2 < aspects.min() < 0.4
    assert 2.6 < aspects.max() < 4.5
    assert abs(np.log(aspects).mean()) < 0.1
    # Every pixel of a box but one of 256 cubed is touched; the noise is uniform.
    assert np.array_equal(touched.sum(axis=(1, 2))[hit], rows * columns)
    assert abs(ours[touched].mean() - 127.5) < 1
    assert len({image.tobytes() for image in ours[hit]}) > 0.99 * hit.sum()
    tops, bottoms = touched[hit].any(axis=2)[:, 0], touched[hit].any(axis=2)[:, -1]
    assert 0.03 < tops.mean() < 0.4
    assert abs(tops.mean() - bottoms.mean()) < 0.06


def test_rows_go_through_their_own_group_alone():
    batch, groups = tf.range(10), tf.constant([0, 1, 2, 0, 2, 2, 1, 0, 0, 2])
    changes = [lambda rows, _: rows * 10, lambda rows, numbers: -numbers, lambda rows, _: rows // 0]
    assert by_group(batch, groups, changes).numpy().tolist() == [0, 10, -2, 3, -4, -5, 60, 7, 8, -9]
