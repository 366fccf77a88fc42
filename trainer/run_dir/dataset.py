"""dataset.json: what a model of this run takes and returns, so that it can be used without its data set. Nothing heavy."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from convoy import exits, shapes
from convoy.bounds import real, whole
from convoy.data.images.view import DEEP, FITS, View
from convoy.outside import parse_object
from convoy.store import Store
from convoy.trainer.run_dir.files import DATASET

if TYPE_CHECKING:
    from convoy.data.opening import Splits

SCHEMA = 1
_SIDE, _COUNT = whole(1, 1 << 16), whole(1, 1 << 62)
_SHAPE = {
    "schema": whole(SCHEMA, SCHEMA),
    "class_names": [str],
    "image_shape": {"height": _SIDE, "width": _SIDE, "channels": whole(1, 1024)},
    "preprocessing": {
        "image_size": whole(0, 1 << 16),
        "divide_by": whole(1, 255),
        "crop_fraction?": real(0.1, 1),
        "fit?": frozenset(FITS),
        "bit_depth?": whole(8, DEEP),
    },
    "splits": [str],
    "epoch": _COUNT,
    "examples_per_class?": [whole(0, 1 << 62)],
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the model takes.

    Attributes:
      image_size: the side to which images are brought (convoy.data.images); 0: they have the size already.
      divide_by: a pixel, from 0 to 255, is divided by this.
      crop_fraction: the share of a side that is shown (convoy.data.images.crop_geometry); 1 in older runs.
      fit: what becomes of the longer side; "crop" in older runs.
      bit_depth: of the 16 bits of a sample, those that are used; all in older runs.
    """

    image_size: int
    divide_by: int = 255
    crop_fraction: float = 1.0
    fit: str = "crop"
    bit_depth: int = DEEP

    @property
    def view(self) -> View:
        """What is shown of an image."""
        return View(self.image_size, self.crop_fraction, self.fit, self.bit_depth)


@dataclasses.dataclass(frozen=True)
class Description:
    """What a run's model takes and returns, and how long an epoch is.

    Attributes:
      class_names: of the logits, in order.
      image_shape: (height, width, channels).
      preprocessing: of images.
      split_names: those that the data set has.
      epoch: positions of an epoch.
      examples_per_class: of training; empty in older runs.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    split_names: tuple[str, ...]
    epoch: int
    examples_per_class: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        height, width, channels = self.image_shape
        return {
            "schema": SCHEMA,
            "class_names": list(self.class_names),
            "image_shape": {"height": height, "width": width, "channels": channels},
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "splits": list(self.split_names),
            "epoch": self.epoch,
            "examples_per_class": list(self.examples_per_class),
        }


def write(store: Store, data: Splits) -> None:
    """Describes the data set that a run is begun on."""
    dataset, (size, fraction, fit, bit_depth) = data.dataset, data.config.view
    description = Description(
        dataset.class_names,
        dataset.image_shape,
        Preprocessing(size, crop_fraction=fraction, fit=fit, bit_depth=bit_depth),
        dataset.split_names,
        data.epoch,
        tuple(map(int, data.examples_per_class)),
    )
    store.put(DATASET, json.dumps(description.to_dict(), indent=1).encode())


def read(store: Store) -> Description | None:
    """None for a run of a version that wrote none; exits.BadData for a file that is something else."""
    place = f"{store.url}/{DATASET}"
    try:
        values = shapes.check(parse_object(store.get(DATASET), place), _SHAPE, place)
    except FileNotFoundError:
        return None
    if len(values.get("examples_per_class", values["class_names"])) != len(values["class_names"]):
        raise exits.BadData(
            f"{place} counts the examples of another number of classes than it names; remove it: the run goes on without it."
        )
    names = {field.name for field in dataclasses.fields(Preprocessing)}
    height, width, channels = (values["image_shape"][name] for name in ("height", "width", "channels"))
    return Description(
        tuple(values["class_names"]),
        (height, width, channels),
        Preprocessing(**{name: how for name, how in values["preprocessing"].items() if name in names}),
        tuple(values["splits"]),
        values["epoch"],
        tuple(values.get("examples_per_class", ())),
    )
