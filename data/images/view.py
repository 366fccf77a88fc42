"""What of an image a run sees, and how large: plain values, which travel with its model. Imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple

FITS = ("crop", "pad", "squash")
DEEP = 16  # bits of a sample, of files that have more than 8


class View(NamedTuple):
    """How an image of any size becomes one of a run's. See crop_geometry.centre_windows.

    Attributes:
      size: the side to which images are brought; 0 takes them as they are, in their one size.
      fraction: the share of a side that is shown.
      fit: what becomes of a side that is longer than the other, one of FITS.
      bit_depth: how many of the DEEP bits of a sample are used; the highest eight of those are taken.
    """

    size: int = 0
    fraction: float = 1.0
    fit: str = "crop"
    bit_depth: int = DEEP
