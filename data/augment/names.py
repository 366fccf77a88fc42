"""The augmentations: a row for each name that --augment may join with +. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import enum

from convoy.table import Entry, Table

PRESETS = {"article": "rotate:15+shift:0.1+flip", "standard": "crop+flip", "photo": "resized+flip"}


class Stage(enum.Enum):
    """When an augmentation is applied, in this order; convoy.data.augment.augmenter has the reasons."""

    READING = "by the source, which decodes only the part that is shown"
    LEVELS = "first, pixel by pixel: target(images, positions, *numbers) returns images"
    POLICY = "operations that each image draws: their colours now, their geometry with that of the recipe"
    GEOMETRY = "as one map of all of them, by convoy.data.augment.geometry"
    LAST = "after geometry: target(images, positions, *numbers) returns images"
    MIXING = "of two positions at once, by convoy.data.augment.mix"


@dataclasses.dataclass(frozen=True)
class Number:
    """A number of an augmentation, above 0.

    Args:
      default: its value where none is given.
      max: the largest that is possible.
      is_whole: whether it counts something.
    """

    default: float
    max: float
    is_whole: bool = False


@dataclasses.dataclass(frozen=True)
class Augmentation(Entry):
    """A row. Its target is the function that applies it.

    Args:
      stage: when it is applied.
      numbers: what the argument holds, each behind a colon; none for a switch.
      excludes: augmentations that do the same in another way.
      mixes_channels: it is defined for images of 1 or 3 channels.
    """

    stage: Stage
    numbers: tuple[Number, ...] = ()
    excludes: tuple[str, ...] = ()
    mixes_channels: bool = False


AUGMENTATIONS: Table[Augmentation] = Table(
    "augmentation",
    {
        "crop": Augmentation(
            "convoy.data.augment.geometry:crop_and_flip",
            "reflect-pad by an eighth and crop back",
            stage=Stage.GEOMETRY,
            source="He et al. 2016",
        ),
        "flip": Augmentation("convoy.data.augment.geometry:flips", "left-right at random", stage=Stage.GEOMETRY),
        "altflip": Augmentation(
            "convoy.data.augment.geometry:flips",
            "left-right every other time that an example is shown",
            stage=Stage.GEOMETRY,
            source="Jordan 2024",
            excludes=("flip",),
        ),
        "resized": Augmentation(
            "convoy.data.images.crop_geometry:random_windows",
            "random-resized-crop of at least this share of the image",
            stage=Stage.READING,
            source="Szegedy et al. 2015",
            argument="AREA",
            numbers=(Number(0.08, 1),),
            excludes=("crop",),
        ),
        "rotate": Augmentation(
            "convoy.data.augment.geometry:maps",
            "either way by up to so many degrees",
            stage=Stage.GEOMETRY,
            argument="DEGREES",
            numbers=(Number(15, 180),),
        ),
        "shift": Augmentation(
            "convoy.data.augment.geometry:maps",
            "either way by up to this share of each side",
            stage=Stage.GEOMETRY,
            argument="FRACTION",
            numbers=(Number(0.1, 1),),
        ),
        "shear": Augmentation(
            "convoy.data.augment.geometry:maps",
            "either way by up to so many degrees",
            stage=Stage.GEOMETRY,
            argument="DEGREES",
            numbers=(Number(15, 80),),
        ),
        "zoom": Augmentation(
            "convoy.data.augment.geometry:maps",
            "by a factor of 1 - FRACTION to 1 + FRACTION",
            stage=Stage.GEOMETRY,
            argument="FRACTION",
            numbers=(Number(0.1, 0.9),),
        ),
        "color": Augmentation(
            "convoy.data.augment.color:jitter",
            "brightness, contrast and saturation by 1 - STRENGTH to 1 + STRENGTH, hue by a quarter of STRENGTH of its circle",
            stage=Stage.LEVELS,
            argument="STRENGTH",
            numbers=(Number(0.4, 1),),
            mixes_channels=True,
        ),
        "randaugment": Augmentation(
            "convoy.data.augment.policy:policy",
            "N random operations of one magnitude, 0 to 30",
            stage=Stage.POLICY,
            source="Cubuk et al. 2020",
            argument="N:MAGNITUDE",
            numbers=(Number(2, 8, is_whole=True), Number(9, 30)),
            mixes_channels=True,
        ),
        "trivial": Augmentation(
            "convoy.data.augment.policy:policy",
            "TrivialAugment, one random operation of a random magnitude",
            stage=Stage.POLICY,
            source="Müller and Hutter 2021",
            excludes=("randaugment",),
            mixes_channels=True,
        ),
        "erase": Augmentation(
            "convoy.data.augment.erase:erase",
            "a box becomes noise, with this probability",
            stage=Stage.LAST,
            source="Zhong et al. 2020",
            argument="PROBABILITY",
            numbers=(Number(0.25, 1),),
        ),
        "mixup": Augmentation(
            "convoy.data.augment.mix:mix",
            "pairs are blended by shares from Beta(ALPHA, ALPHA)",
            stage=Stage.MIXING,
            source="Zhang et al. 2018",
            argument="ALPHA",
            numbers=(Number(0.2, 100),),
        ),
        "cutmix": Augmentation(
            "convoy.data.augment.mix:mix",
            "pairs swap a box",
            stage=Stage.MIXING,
            source="Yun et al. 2019",
            argument="ALPHA",
            numbers=(Number(1, 100),),
        ),
    },
)


def help_text() -> str:
    """Of --augment."""
    presets = ", ".join(f"{name} is {items}" for name, items in PRESETS.items())
    return f"changes of training images, joined by +. {AUGMENTATIONS.help()}. {presets}"
