"""The names of the corruptions, and --corruptions, parsed. Imports nothing heavy."""

from __future__ import annotations

import dataclasses

from convoy.options import names_in
from convoy.table import Entry, Table

SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Corruption(Entry):
    """A row. Its target is a function of (pixels float32 [h, w, c] in 0 to 1, generator, *constants) that returns such pixels.

    What it returns may lie outside 0 to 1; `corrupt` cuts it off. constants.py has the constants.

    Args:
      is_random: whether it draws numbers; without, the seed changes nothing.
    """

    is_random: bool = True


CORRUPTIONS: Table[Corruption] = Table(
    "corruption",
    {
        "gaussian_noise": Corruption("convoy.data.corruptions.noise:gaussian_noise", "normal noise on every value"),
        "shot_noise": Corruption("convoy.data.corruptions.noise:shot_noise", "Poisson noise, as of few photons"),
        "impulse_noise": Corruption(
            "convoy.data.corruptions.noise:impulse_noise", "values become 0 or 1 (salt and pepper)"
        ),
        "defocus_blur": Corruption(
            "convoy.data.corruptions.blur:defocus_blur", "the mean over a disc, as out of focus", is_random=False
        ),
        "glass_blur": Corruption("convoy.data.corruptions.blur:glass_blur", "pixels take a neighbour's colour"),
        "motion_blur": Corruption("convoy.data.corruptions.blur:motion_blur", "a trail in a random direction"),
        "zoom_blur": Corruption(
            "convoy.data.corruptions.blur:zoom_blur", "the mean over enlargements, as on the way there", is_random=False
        ),
        "snow": Corruption("convoy.data.corruptions.weather:snow", "flakes with trails, on a whitened picture"),
        "fog": Corruption("convoy.data.corruptions.weather:fog", "a cloud of the diamond-square algorithm"),
        "brightness": Corruption(
            "convoy.data.corruptions.weather:brightness", "a higher value (V) in HSV", is_random=False
        ),
        "contrast": Corruption(
            "convoy.data.corruptions.digital:contrast", "towards the mean of each channel", is_random=False
        ),
        "elastic_transform": Corruption("convoy.data.corruptions.elastic:elastic_transform", "stretched and distorted"),
        "pixelate": Corruption(
            "convoy.data.corruptions.digital:pixelate", "fewer pixels, enlarged again", is_random=False
        ),
        "jpeg_compression": Corruption(
            "convoy.data.corruptions.digital:jpeg_compression", "JPEG of low quality", is_random=False
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class CorruptionsSpec:
    """--corruptions, parsed.

    Attributes:
      names: of rows of CORRUPTIONS, in their order.
    """

    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> CorruptionsSpec:
        """`all`, or names joined by commas; raises exits.CannotRun as options.names_in does."""
        names = {*CORRUPTIONS} if text == ALL else names_in("corruptions", text, CORRUPTIONS)
        return cls(tuple(name for name in CORRUPTIONS if name in names))
