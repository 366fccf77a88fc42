"""What --augment says: names joined by +, each with numbers after colons. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses

from convoy import bounds, exits
from convoy.options import shortened
from convoy.table import near

PRESETS = {"article": "rotate:15+shift:0.1+flip", "standard": "crop+flip", "photo": "resized+flip"}

# name -> (fields of Recipe, their values where none are given, the largest that are allowed)
_ITEMS: dict[str, tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]] = {
    "crop": (("crop",), (1,), (1,)),
    "flip": (("flip",), (1,), (1,)),
    "altflip": (("altflip",), (1,), (1,)),
    "resized": (("least_area",), (0.08,), (1,)),
    "rotate": (("rotate",), (15,), (180,)),
    "shift": (("shift",), (0.1,), (1,)),
    "shear": (("shear",), (15,), (80,)),
    "zoom": (("zoom",), (0.1,), (0.9,)),
    "color": (("color",), (0.4,), (1,)),
    "randaugment": (("operations", "magnitude"), (2, 9), (8, 30)),
    "trivial": (("trivial",), (1,), (1,)),
    "erase": (("erase",), (0.25,), (1,)),
    "mixup": (("mixup",), (0.2,), (100,)),
    "cutmix": (("cutmix",), (1,), (100,)),
}  # fmt: skip
_SWITCHES = ("crop", "flip", "altflip", "trivial")
_APART = (("flip", "altflip"), ("randaugment", "trivial"), ("crop", "resized"))  # one or the other


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One augmentation, every number 0 where it is not asked for."""

    crop: float = 0  # reflect-pad by an eighth and crop back
    flip: float = 0  # left-right, at random
    altflip: float = 0  # left-right, every other time that an example is shown
    least_area: float = 0  # random-resized-crop of at least this share of the image
    rotate: float = 0  # degrees, either way
    shift: float = 0  # share of the side, either way
    shear: float = 0  # degrees, either way
    zoom: float = 0  # 0.1: by 0.9 to 1.1
    color: float = 0  # brightness, contrast and saturation by 1 - c to 1 + c, hue by a quarter of c of its circle
    operations: float = 0  # RandAugment: how many
    magnitude: float = 0  # RandAugment: 0 to 30
    trivial: float = 0  # TrivialAugment
    erase: float = 0  # probability
    mixup: float = 0  # alpha
    cutmix: float = 0  # alpha

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """--augment -> Recipe; CannotRun, a sentence, for what is no augmentation."""
        values: dict[str, float] = {}
        for word in [] if text == "none" else PRESETS.get(text, text).split("+"):
            for item in PRESETS.get(word, word).split("+"):
                values |= _item(text, item, values)
        names = {name for name, (fields, *_) in _ITEMS.items() if fields[0] in values}
        for pair in _APART:
            if set(pair) <= names:
                raise exits.CannotRun(
                    f"--augment={shortened(text)} has {pair[0]} and {pair[1]}; leave one of them out."
                )
        return cls(**values)

    @property
    def mixes(self) -> bool:
        """Whether images of two positions, 2i and 2i + 1, become one."""
        return bool(self.mixup or self.cutmix)

    @property
    def has_policy(self) -> bool:
        """Whether each image draws operations of its own."""
        return bool(self.operations or self.trivial)

    @property
    def mirrors(self) -> bool:
        """Whether images are mirrored, some of the time."""
        return bool(self.flip or self.altflip)

    @property
    def maps(self) -> bool:
        """Whether the recipe's own geometry needs interpolation."""
        return bool(self.rotate or self.shift or self.shear or self.zoom)


def _item(text: str, item: str, before: dict[str, float]) -> dict[str, float]:
    name, *given = item.split(":")
    if name not in _ITEMS:
        known = [*_ITEMS, *PRESETS, "none"]
        hint = near(name, known, f"there are {', '.join(known)}, joined by +.")
        raise exits.CannotRun(f"--augment={shortened(text)}: {shortened(name)!r} is no augmentation; {hint}")
    fields, defaults, largest = _ITEMS[name]
    if fields[0] in before:
        raise exits.CannotRun(f"--augment={shortened(text)} has {name} twice; once is enough.")
    try:
        numbers = [bounds.number(number) for number in given]
    except ValueError:
        numbers = [-1.0]
    most = 0 if name in _SWITCHES else len(fields)
    inside = all(bounds.SMALLEST <= number <= limit for number, limit in zip(numbers, largest, strict=False))
    if len(numbers) > most or not inside or (name == "randaugment" and numbers and numbers[0] % 1):
        example = ":".join([name, *(f"{default:g}" for default in defaults[:most])])
        wanted = " and ".join(f"above 0 and at most {limit:g}" for limit in largest[:most])
        wants = f"it takes {wanted}, for example {example}" if most else "it takes no numbers"
        raise exits.CannotRun(f"--augment={shortened(text)}: {shortened(item)} is not possible; {wants}.")
    return dict(zip(fields, [*numbers, *defaults[len(numbers) :]], strict=True))
