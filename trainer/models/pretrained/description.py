"""What a source of weights says of itself: its network, the images it was measured with, its classes. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from convoy import exits
from convoy.options import shortened
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer.models.names import AUTO, is_users_own, network_of
from convoy.trainer.models.pretrained import imagenet
from convoy.trainer.models.pretrained.sources import Source
from convoy.trainer.models.zoo.families import PIXELS
from convoy.trainer.models.zoo.hub_names import NAMES, PRESET_PIXELS
from convoy.trainer.run_dir import dataset, opening, trust

# timm's name of an architecture -> --model, for networks whose layers have timm's names.
TIMM = {"efficientnet_lite0": "efficientnet_lite0", "tf_efficientnet_lite0": "efficientnet_lite0"}
_PADDED = "tf_"  # begins timm's name, or its tag, of weights that were trained with TensorFlow's padding
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
        return _of_timm(source, model)
    if source.kind == "run":
        return _of_run(source, model)
    if source.kind == "imagenet":
        return _of_imagenet(source, model)
    if source.kind == "preset":
        return _of_preset(source)
    return Description()


def _of_timm(source: Source, model: str) -> Description:
    architecture, how = source.config["architecture"], source.config.get("pretrained_cfg", {})
    tag = how.get("tag") or ""
    mean, deviation = tuple(how.get("mean", ())), tuple(how.get("std", ()))
    padded = architecture.startswith(_PADDED) or tag.startswith(_PADDED)
    own = TIMM.get(architecture, "") if padded else ""
    if model in TIMM.values() and not own:
        raise exits.CannotRun(
            f"--pretrained={shortened(source.spec)}: {printable(architecture)[:60]} {printable(tag)[:40]} was not trained with"
            f" TensorFlow's padding, as --model={model} pads, though all shapes fit; leave --model out, or take weights whose"
            f" name or tag begins with {_PADDED}."
        )
    size = how.get("input_size") or []
    return Description(
        own or _of_hub(architecture, mean, deviation),
        size[-1] if len(size) == 3 else 0,
        how.get("crop_pct") or 1.0,
        mean,
        deviation,
        _classes_of_timm(source.config, tag),
    )


def _of_hub(architecture: str, mean: tuple[float, ...], deviation: tuple[float, ...]) -> str:
    """--model=hub:NAME for timm's name of an architecture, the one that sees pixels as these weights did; "" for none."""
    names = [name for name, network in NAMES.items() if network.architecture == architecture]
    for name in names:
        pixels = PIXELS[PRESET_PIXELS.get(name, NAMES[name].family.pixels)]
        if not mean or (pixels.mean, pixels.deviation) == (mean, deviation):
            return f"hub:{name}"
    return f"hub:{names[0]}" if names else ""


def _classes_of_timm(config: dict[str, Any], tag: str) -> Sequence[Sequence[str]]:
    if names := config.get("label_names"):
        return [(name,) for name in names]
    return imagenet.class_names() if config.get("num_classes") == imagenet.CLASSES and "in1k" in tag else ()


def _of_run(source: Source, model: str) -> Description:
    store = open_store(source.root)
    stored, described = opening.trained_config(store, source.root), dataset.read(store)
    if model == AUTO and is_users_own(stored.unchecked.model):
        trust.consented(stored, source.root)  # or whose code would be imported?
    if described is None:
        return Description(stored.unchecked.model)
    how = described.preprocessing
    return Description(
        stored.unchecked.model,
        how.image_size,
        how.crop_fraction,
        classes=[(name,) for name in described.class_names],
    )


def _of_preset(source: Source) -> Description:
    """KerasHub's own presets have their names in the names of their folders, also in its cache."""
    parts = reversed(source.root.rstrip("/").split("/"))
    name = next((part for part in parts if part in NAMES), "")
    if not name or source.config.get("class_name") != f"{NAMES[name].family.classifier}Backbone":
        return Description()
    classes = imagenet.class_names() if name.endswith(("_imagenet", "_in1k")) else ()
    return Description(f"hub:{name}", NAMES[name].side, classes=classes)


def _of_imagenet(source: Source, model: str) -> Description:
    network = network_of(model)
    if network is None or not model.startswith("keras:"):
        raise exits.CannotRun(
            f"--pretrained={source.spec} takes weights that Keras publishes; say of which network, --model=keras:NAME"
            " (`convoy models` lists them), or name a file or folder."
        )
    return Description(model, network.side, _CROP, classes=imagenet.class_names())
