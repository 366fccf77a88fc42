"""What a source of weights says of itself: its network, the images it was measured with, its classes. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from convoy import exits
from convoy.options import shortened
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer.models.names import network_of
from convoy.trainer.models.pretrained import imagenet
from convoy.trainer.models.pretrained.sources import Source
from convoy.trainer.run_dir import dataset, opening

# timm's name of an architecture -> --model, for weights whose layers have timm's names.
TIMM = {"efficientnet_lite0": "efficientnet_lite0", "tf_efficientnet_lite0": "efficientnet_lite0"}
# Weights that timm trained itself for a network that pads "same" were trained with symmetric padding.
_SYMMETRIC = ("ra_", "ra2_", "agc_")
_CROP = 0.875  # of the evaluations that most published figures are of: 224 of 256 pixels


@dataclasses.dataclass(frozen=True)
class Description:
    """What a source says of itself.

    Attributes:
      model: --model; "" where it does not say.
      image_size: side in pixels of its images; 0 where it does not say.
      crop_fraction: the share of the shorter side that was shown; 1 where it does not say.
      mean, deviation: of red, green and blue in [0, 1], by which pixels were normalized; empty where it does not say.
      classes: the names of each class; empty where it does not say.
    """

    model: str = ""
    image_size: int = 0
    crop_fraction: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    classes: Sequence[Sequence[str]] = ()


def describe(source: Source, model: str) -> Description:
    """What is known without its tensors.

    Args:
      source: what --pretrained names.
      model: --model; auto for what the source says.
    """
    if source.kind == "timm":
        return _of_timm(source)
    if source.kind == "run":
        return _of_run(source)
    if source.kind == "imagenet":
        return _of_imagenet(source, model)
    return Description()


def _of_timm(source: Source) -> Description:
    architecture, how = source.config["architecture"], source.config.get("pretrained_cfg", {})
    tag = how.get("tag") or ""
    if architecture in TIMM and architecture.startswith("efficientnet") and tag.startswith(_SYMMETRIC):
        raise exits.CannotRun(
            f"--pretrained={shortened(source.spec)} was trained with symmetric padding ({printable(tag)[:40]}), and"
            f" --model={TIMM[architecture]} pads as TensorFlow does; take tf_{architecture}."
        )
    size = how.get("input_size") or []
    return Description(
        TIMM.get(architecture, ""),
        size[-1] if len(size) == 3 else 0,
        how.get("crop_pct") or 1.0,
        tuple(how.get("mean", ())),
        tuple(how.get("std", ())),
        _classes_of_timm(source.config, tag),
    )


def _classes_of_timm(config: dict[str, Any], tag: str) -> Sequence[Sequence[str]]:
    if names := config.get("label_names"):
        return [(name,) for name in names]
    return imagenet.class_names() if config.get("num_classes") == imagenet.CLASSES and "in1k" in tag else ()


def _of_run(source: Source) -> Description:
    store = open_store(source.root)
    stored, described = opening.trained_config(store, source.root), dataset.read(store)
    if described is None:
        return Description(stored.unchecked.model)
    how = described.preprocessing
    return Description(
        stored.unchecked.model,
        how.image_size,
        how.crop_fraction,
        classes=[(name,) for name in described.class_names],
    )


def _of_imagenet(source: Source, model: str) -> Description:
    network = network_of(model)
    if network is None:
        raise exits.CannotRun(
            f"--pretrained={source.spec} takes weights that Keras publishes; say of which network, --model=keras:NAME"
            " (`convoy models` lists them), or name a file or folder."
        )
    return Description(model, network.side, _CROP, classes=imagenet.class_names())
