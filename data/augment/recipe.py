"""--augment, parsed: names joined by +, each with numbers after colons. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from convoy import bounds, exits
from convoy.data.augment.names import AUGMENTATIONS, PRESETS, Stage
from convoy.options import shortened
from convoy.table import near


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The augmentations of a run.

    Attributes:
      items: name in AUGMENTATIONS -> its numbers, of those that are asked for, in the order of the table.
    """

    items: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """CannotRun, a sentence, for what is no augmentation."""
        items: dict[str, tuple[float, ...]] = {}
        for word in [] if text == "none" else PRESETS.get(text, text).split("+"):
            for item in PRESETS.get(word, word).split("+"):
                name, numbers = _item(text, item)
                if name in items:
                    raise exits.CannotRun(f"--augment={shortened(text)} has {name} twice; once is enough.")
                items[name] = numbers
        for name in items:
            for other in AUGMENTATIONS[name].excludes:
                if other in items:
                    raise exits.CannotRun(f"--augment={shortened(text)} has {other} and {name}; leave one of them out.")
        return cls({name: items[name] for name in AUGMENTATIONS if name in items})

    def __contains__(self, name: str) -> bool:
        return name in self.items

    def number(self, name: str, index: int = 0) -> float:
        """A number of an augmentation; 0 if that is not asked for."""
        return self.items[name][index] if name in self.items else 0.0

    def names_at(self, *stages: Stage) -> list[str]:
        """The names that are applied at one of these stages."""
        return [name for name in self.items if AUGMENTATIONS[name].stage in stages]

    @property
    def min_area(self) -> float:
        """The least share of an image that is shown; 0 for all of every image."""
        return self.number("resized")

    @property
    def mixes(self) -> bool:
        """Whether images of two positions, 2i and 2i + 1, become one."""
        return bool(self.names_at(Stage.MIXING))


def _item(text: str, item: str) -> tuple[str, tuple[float, ...]]:
    name, *given = item.split(":")
    if name not in AUGMENTATIONS:
        known = [*AUGMENTATIONS, *PRESETS, "none"]
        hint = near(name, known, f"there are {', '.join(known)}, joined by +.")
        raise exits.CannotRun(f"--augment={shortened(text)}: {shortened(name)!r} is no augmentation; {hint}")
    wanted = AUGMENTATIONS[name].numbers
    try:
        numbers = [bounds.number(number) for number in given]
    except ValueError:
        numbers = [-1.0]
    possible = len(numbers) <= len(wanted) and all(
        bounds.SMALLEST <= number <= asked.max and not (asked.is_whole and number % 1)
        for number, asked in zip(numbers, wanted, strict=False)
    )
    if not possible:
        example = ":".join([name, *(f"{asked.default:g}" for asked in wanted)])
        limits = " and ".join(f"above 0 and at most {asked.max:g}" for asked in wanted)
        wants = f"it takes {limits}, for example {example}" if wanted else "it takes no numbers"
        raise exits.CannotRun(f"--augment={shortened(text)}: {shortened(item)} is not possible; {wants}.")
    return name, (*numbers, *(asked.default for asked in wanted[len(numbers) :]))
