"""What to train on, and what is done to it: the data floor's own flags."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection

from convoy import options
from convoy.bounds import real, whole
from convoy.data.augment import names as augmentations
from convoy.data.augment.recipe import Recipe
from convoy.data.images.unreadable import POLICIES
from convoy.data.images.view import DEEP, FITS, View
from convoy.data.sources import names as sources
from convoy.data.sources.arguments import MAX_SIDE
from convoy.data.sources.names import DatasetSpec
from convoy.data.specs import BALANCES, BalanceSpec, EvalSplitSpec, OrderSpec, check_group, check_test_split
from convoy.options import option
from convoy.table import joined

_GROUP = "Data"
DEFAULT_EVAL_SPLIT = "hash:0.1"  # of a data set without a validation split


def _sources_with(flag: str) -> str:
    return joined(map(sources.SOURCES.syntax, sources.SOURCES.with_option(flag)), "or")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The examples of a run. Valid by construction; `auto` stands until the data set has been opened."""

    dataset: str = option("digits", lambda: f"{sources.help_text()}.", group=_GROUP)
    data_dir: str = option(
        "",
        "where TFDS data sets are or will be prepared, records of a bucket copied to, and the names in a CSV begin (default:"
        " TFDS's own folder; the user's cache; the CSV's folder).",
        group=_GROUP,
        may_change=True,
    )
    eval_split: str = option(
        "auto",
        "examples that choose the best checkpoint: the name of a split; hash:FRACTION of train by content hash, or"
        " stratified:FRACTION of every class (both by whole groups where there are some); or none (train on all of train)."
        " auto: the data set's validation split, else hash:0.1. The test split is left alone until the end.",
        group=_GROUP,
    )
    test_split: str = option(
        "auto",
        "examples that a finished run is measured on: the name of a split, or none. Without one they are those that chose the"
        " best checkpoint. auto: the data set's test split, if it has one with labels.",
        group=_GROUP,
        check=check_test_split,
    )
    group: str = option(
        "",
        lambda: (
            "an expression (RE2) whose first (...) finds the group in a file's name below the folder: (patient[0-9]+)."
            " A group stands on one side of every split. With"
            f" --dataset={_sources_with('group')}."
        ),
        group=_GROUP,
        check=check_group,
    )
    image_size: int = option(
        0,
        "side in pixels to which images are resized and centre-cropped; needed where images differ in size (0: as they"
        " are).",
        group=_GROUP,
        within=whole(0, MAX_SIDE),
    )
    crop_fraction: float | None = option(
        None,
        "the share of the shorter side that --image_size shows: that side is brought to image_size / crop_fraction pixels, by a"
        " cubic filter below 1, and the centre is cut out (default: as the network of --pretrained was measured, else 1).",
        group=_GROUP,
        within=real(0.1, 1),
    )
    fit: str = option(
        "crop",
        "what --image_size does with images that are not square: crop, both ends of the longer side are cut off; pad, all is"
        " shown, and the rest of the square is black; squash, all is shown, out of proportion.",
        group=_GROUP,
        choices=FITS,
    )
    bit_depth: int = option(
        DEEP,
        lambda: (
            "bits that are used of the 16 of a deep image file: 12 where no level is above 4,095. The highest eight of them are"
            f" taken. With --dataset={_sources_with('bit_depth')}."
        ),
        group=_GROUP,
        within=whole(8, DEEP),
    )
    augment: str = option("none", lambda: f"{augmentations.help_text()}.", group=_GROUP)
    balance: str = option("none", lambda: f"how often an epoch draws each class. {BALANCES.help()}.", group=_GROUP)
    order: str = option(
        "full",
        "full, every epoch is a shuffle of all examples; or blocked:N, blocks of N neighbours are shuffled, and the examples of"
        " eight blocks at a time, in up to 64 places of a batch: records:gs:// are then read from the bucket while the run goes"
        " on, each process what it needs (docs/records.md).",
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
        0.01,
        "the share of a split's image files that may be bad; more end the run.",
        group=_GROUP,
        within=real(0, 1),
        may_change=True,
    )
    cache_bytes: int = option(
        4 << 30,
        "a split whose decoded images need no more bytes than this is decoded once, into memory (which takes twice as much"
        " for a while); a larger one as it is drawn.",
        group=_GROUP,
        within=whole(0, 1 << 60),
        may_change=True,
    )
    cache_gb: float = option(
        16.0,
        "GiB of disk below --data_dir that each process uses for what it has read ahead of a bucket, with --order=blocked:N.",
        group=_GROUP,
        within=real(0, 1 << 20, above=True),
        may_change=True,
    )

    def __post_init__(self) -> None:
        options.check(self)
        for flag, default, lacks in (("group", "", "names of files"), ("bit_depth", DEEP, "files of 16 bits")):
            if getattr(self, flag) != default and flag not in self.dataset_spec.source.options:
                name = options.shortened(self.dataset)
                remedy = f"--dataset={name} has no {lacks}; leave it out, or give {_sources_with(flag)}"
                raise options.impossible(flag, getattr(self, flag), remedy)
        _ = (
            self.dataset_spec,
            self.eval_split_spec,
            self.recipe,
            self.balance_spec,
            self.order_spec,
        )  # refused here, before anybody reads them

        if self.order_spec.block and self.balance_spec.name != "none":
            remedy = f"blocks have no balance, and --balance={self.balance} wants one; leave one of the two out"
            raise options.impossible("order", self.order, remedy)

    @functools.cached_property
    def dataset_spec(self) -> DatasetSpec:
        """--dataset, parsed."""
        return DatasetSpec.parse(self.dataset)

    @functools.cached_property
    def eval_split_spec(self) -> EvalSplitSpec:
        """--eval_split, parsed."""
        return EvalSplitSpec.parse(self.eval_split)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """--augment, parsed."""
        return Recipe.parse(self.augment)

    @functools.cached_property
    def balance_spec(self) -> BalanceSpec:
        """--balance, parsed."""
        return BalanceSpec.parse(self.balance)

    @functools.cached_property
    def order_spec(self) -> OrderSpec:
        """--order, parsed."""
        return OrderSpec.parse(self.order)

    @property
    def view(self) -> View:
        """What --image_size, --crop_fraction, --fit and --bit_depth say."""
        fraction = 1.0 if self.crop_fraction is None else self.crop_fraction
        return View(self.image_size, fraction, self.fit, self.bit_depth)

    def resolved(self, split_names: Collection[str]) -> DataConfig:
        """The same with --eval_split=auto replaced by the split that it means for a data set with these splits."""
        if self.eval_split != "auto":
            return self
        validates = "validation" in split_names and self.test_split != "validation"
        return dataclasses.replace(self, eval_split="validation" if validates else DEFAULT_EVAL_SPLIT)
