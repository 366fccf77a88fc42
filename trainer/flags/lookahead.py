"""--lookahead, parsed."""

from __future__ import annotations

import dataclasses
import re

from convoy import bounds, options

_FORM = re.compile(r"0|([1-9][0-9]{0,5})(?::(.+))?")
_ALPHA = bounds.real(0, 1, above=True)


@dataclasses.dataclass(frozen=True)
class LookaheadSpec:
    """How slow weights follow: every `interval` steps (0: there are none), by `alpha` of the way."""

    text: str
    interval: int
    alpha: float

    @classmethod
    def parse(cls, text: str) -> LookaheadSpec:
        match = _FORM.fullmatch(text)
        try:
            alpha = bounds.number(match[2] or "0.5") if match else 0.0
        except ValueError:
            alpha = 0.0
        if not match or not _ALPHA.holds(alpha):
            remedy = (
                "give 0, STEPS or STEPS:ALPHA with up to 6 digits and an alpha above 0 and up to 1, for example 5:0.5"
            )
            raise options.impossible("lookahead", text, remedy)
        return cls(text, int(match[1] or 0), alpha)

    def __str__(self) -> str:
        return self.text
