"""What follows the name of a source in --dataset, parsed. Imports nothing heavy."""

from __future__ import annotations

import re
from typing import NamedTuple

from convoy import options
from convoy.bounds import whole

MAX_SIDE = 4096  # pixels
_NUMBER = "([0-9]{1,12})"
_SYNTHETIC = re.compile(f"{_NUMBER}x{_NUMBER}x{_NUMBER}:{_NUMBER}:{_NUMBER}", re.ASCII)
_BOUNDS = {
    "height": whole(1, MAX_SIDE),
    "width": whole(1, MAX_SIDE),
    "channels": whole(1, 1024),
    "number of classes": whole(1, 1_000_000),
    "number of examples": whole(1, 1_000_000_000),
}


class SyntheticShape(NamedTuple):
    """What synthetic:HxWxC:CLASSES:N asks for."""

    height: int
    width: int
    channels: int
    classes: int
    examples: int


def synthetic_shape(text: str, argument: str) -> SyntheticShape:
    """HxWxC:CLASSES:N; CannotRun, by the `text` of --dataset, for another form or numbers out of bounds."""
    match = _SYNTHETIC.fullmatch(argument)
    if not match:
        remedy = "write synthetic:HxWxC:CLASSES:N with whole numbers, for example synthetic:32x32x3:10:1000"
        raise options.impossible("dataset", text, remedy)
    shape = SyntheticShape(*map(int, match.groups()))
    for number, (name, bounds) in zip(shape, _BOUNDS.items(), strict=True):
        if not bounds.holds(number):
            raise options.impossible("dataset", text, f"its {name} is {bounds}")
    return shape


def tfds_name(text: str, argument: str) -> str:
    """A name of TFDS; CannotRun for one with arguments, which would reach a builder's constructor."""
    if "=" in argument:
        remedy = "give no arguments of TFDS's own; a configuration is NAME/CONFIG, a version NAME:1.2.3"
        raise options.impossible("dataset", text, remedy)
    return argument
