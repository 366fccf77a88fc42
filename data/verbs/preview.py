"""`convoy data preview`: its flags. data/preview.py draws.

`python -m convoy.data.verbs.preview FLAGS` is the drawing without its parent.
"""

from __future__ import annotations

import dataclasses

from convoy import destination, imports, options
from convoy.bounds import whole
from convoy.counting import counted
from convoy.data.config import DataConfig
from convoy.data.sources import places
from convoy.options import option
from convoy.verbs import ChildVerb

USAGE = """usage: convoy data preview [--flag=value ...]

Draws the first examples of the training stream, each beside what --augment makes of it, into a PNG."""


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    """What to draw, and where."""

    output: str = option("preview.png", "the picture.", group="Preview")
    count: int = option(24, "how many examples.", group="Preview", within=whole(1, 400))
    seed: int = option(0, "of the run that would see them.", group="Preview", within=whole(-(2**31), 2**31 - 1))

    def __post_init__(self) -> None:
        options.check(self)


def _parse(argv: list[str]) -> tuple[PreviewConfig, DataConfig]:
    values = options.parse(argv, PreviewConfig, DataConfig)
    return PreviewConfig(**options.take(PreviewConfig, values)), DataConfig(**options.take(DataConfig, values))


def _work(parsed: tuple[PreviewConfig, DataConfig]) -> None:
    config, data = parsed
    destination.check("output", config.output)
    places.check(data)
    imports.tensorflow_and_keras()
    from convoy.data.preview import contact_sheet

    destination.write("output", config.output, contact_sheet(data, config.count, config.seed))
    print(
        f"{config.output}: {counted(config.count, 'example')} of {data.dataset}, each beside what"
        f" --augment={data.augment} makes of it."
    )


VERB = ChildVerb(USAGE, (PreviewConfig, DataConfig), _parse, _work, module="convoy.data.verbs.preview")

if __name__ == "__main__":
    VERB.child()
