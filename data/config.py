"""What to train on, and what is done to it: the data floor's own flags."""

from __future__ import annotations

import dataclasses
import functools
import re

from convoy import exits, options
from convoy.bounds import real, whole
from convoy.data.augment.recipe import Recipe
from convoy.data.images.unreadable import POLICIES
from convoy.options import option

_GROUP = "Data"
MOST_PIXELS = 4096  # of a side
_SYNTHETIC = re.compile(r"synthetic:([0-9]{1,12})x([0-9]{1,12})x([0-9]{1,12}):([0-9]{1,12}):([0-9]{1,12})", re.ASCII)
_SYNTHETIC_BOUNDS = {
    "height": whole(1, MOST_PIXELS),
    "width": whole(1, MOST_PIXELS),
    "channels": whole(1, 1024),
    "number of classes": whole(1, 1_000_000),
    "number of examples": whole(1, 1_000_000_000),
}
_HASH = re.compile(r"hash:(0?\.[0-9]{1,20})")
_BALANCE = re.compile(r"none|oversample|sqrt|undersample|effective:0?\.(?=0*[1-9])[0-9]{1,12}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The examples of a run. Valid by construction; `auto` stands until the data set has been opened."""

    dataset: str = option(
        "digits",
        "digits (1,797 real handwritten digits, nothing to download), cifar10 or any other TFDS name, folder:PATH with"
        " one folder of images per class, records:DIR or records:gs://BUCKET/PATH (what `convoy data pack` made of any of"
        " these), or synthetic:HxWxC:CLASSES:N.",
        group=_GROUP,
    )
    data_dir: str = option(
        "",
        "where TFDS data sets are or will be prepared, and records of a bucket copied to (default: TFDS's own folder; the"
        " user's cache).",
        group=_GROUP,
    )
    eval_split: str = option(
        "auto",
        "examples that choose the best checkpoint: the name of a split, hash:FRACTION of train by content hash, or none"
        " (train on all of train). auto: the data set's validation split, else hash:0.1. The test split is left alone"
        " until the end.",
        group=_GROUP,
    )
    image_size: int = option(
        0,
        "side in pixels to which images are resized and centre-cropped; needed where images differ in size (0: as they"
        " are).",
        group=_GROUP,
        within=whole(0, MOST_PIXELS),
    )
    augment: str = option(
        "none",
        "changes of training images, joined by +: crop (reflect-pad by an eighth and crop back), flip or altflip (left-right:"
        " at random, or every other time), resized:AREA (random-resized-crop), rotate:DEGREES, shift:FRACTION,"
        " shear:DEGREES, zoom:FRACTION, color:STRENGTH, randaugment:N:MAGNITUDE, trivial (TrivialAugment),"
        " erase:PROBABILITY, mixup:ALPHA, cutmix:ALPHA. standard is crop+flip, photo resized+flip, article"
        " rotate:15+shift:0.1+flip.",
        group=_GROUP,
    )
    balance: str = option(
        "none",
        "how often an epoch draws each class: none, every example once; oversample, all classes equally often; sqrt, in"
        " proportion to the root of their examples; effective:BETA, to examples / effective number of them (Cui et al. 2019);"
        " undersample, as often as the smallest class has examples, which makes an epoch shorter.",
        group=_GROUP,
    )
    bad_images: str = option(
        "fail",
        "image files that cannot be read: fail, the first ends the run; skip, they do not count; substitute, in training the"
        " next one that can be read takes the place of each. Those of skip and substitute are listed in bad_images.jsonl.",
        group=_GROUP,
        choices=POLICIES,
    )
    max_bad_fraction: float = option(
        0.01, "the share of a split's image files that may be bad; more end the run.", group=_GROUP, within=real(0, 1)
    )
    cache_bytes: int = option(
        4 << 30,
        "a split whose decoded images need no more bytes than this is decoded once, into memory (which takes twice as much"
        " for a while); a larger one as it is drawn.",
        group=_GROUP,
        within=whole(0, 1 << 60),
    )

    def __post_init__(self) -> None:
        options.check(self)
        kind, _, rest = self.dataset.partition(":")
        if not self.dataset:
            raise exits.CannotRun("--dataset= is empty; give digits, a TFDS name such as cifar10, or folder:PATH.")
        if kind == "folder" and not rest:
            raise exits.CannotRun(f"--dataset={self.dataset} names no folder; write folder:PATH.")
        if kind == "records" and not rest:
            raise exits.CannotRun(f"--dataset={self.dataset} names no directory; write records:DIR.")
        if kind == "synthetic":
            self._check_synthetic()
        if self.is_prepared and "=" in self.dataset:
            remedy = "give no arguments of TFDS's own; a configuration is NAME/CONFIG, a version NAME:1.2.3"
            raise options.impossible("dataset", self.dataset, remedy)
        if self.eval_split not in ("auto", "none") and self.eval_split.startswith("hash:"):
            if not self.eval_fraction():
                raise exits.CannotRun(
                    f"--eval_split={options.shortened(self.eval_split)} is not hash:FRACTION with a fraction between 0 and"
                    " 1, for example hash:0.1."
                )
        elif self.eval_split in ("", "train"):
            raise exits.CannotRun(
                f"--eval_split={self.eval_split} would choose the best checkpoint on the examples it learned from; give"
                " another split, hash:0.1 or none."
            )
        _ = self.recipe  # refused here, before anybody reads it
        if not _BALANCE.fullmatch(self.balance):
            raise exits.CannotRun(
                f"--balance={options.shortened(self.balance)} is not possible; give none, oversample, sqrt, undersample, or"
                " effective:BETA with BETA between 0 and 1, for example effective:0.999."
            )

    @functools.cached_property
    def recipe(self) -> Recipe:
        """--augment, parsed."""
        return Recipe.parse(self.augment)

    def _check_synthetic(self) -> None:
        shape = self.synthetic_shape()
        if not shape:
            remedy = "write synthetic:HxWxC:CLASSES:N with whole numbers, for example synthetic:32x32x3:10:1000"
            raise options.impossible("dataset", self.dataset, remedy)
        for number, (name, bounds) in zip(shape, _SYNTHETIC_BOUNDS.items(), strict=True):
            if not bounds.holds(number):
                raise options.impossible("dataset", self.dataset, f"its {name} is {bounds}")

    @property
    def kind(self) -> str:
        """What stands before the first colon."""
        return self.dataset.partition(":")[0]

    @property
    def has_place(self) -> bool:
        """Whether the rest of --dataset is a place, which says nothing of what lies there."""
        return self.kind in ("folder", "records")

    @property
    def is_prepared(self) -> bool:
        """Whether TFDS knows, or has prepared, what --dataset names."""
        return not self.has_place and self.kind not in ("digits", "synthetic")

    def synthetic_shape(self) -> tuple[int, ...] | None:
        """(height, width, channels, classes, examples) of a synthetic data set; None for any other."""
        match = _SYNTHETIC.fullmatch(self.dataset)
        return tuple(int(number) for number in match.groups()) if match else None

    def eval_fraction(self) -> float:
        """The FRACTION of --eval_split=hash:FRACTION; 0 for any other split."""
        match = _HASH.fullmatch(self.eval_split)
        return float(match[1]) if match else 0.0
