"""`convoy data COMMAND`."""

from __future__ import annotations

from convoy import verbs

COMMANDS = {
    "pack": ("convoy.data.verbs.pack:main", "pack a data set into few large files, which are read faster"),
    "preview": ("convoy.data.verbs.preview:main", "draw what the model will see, originals beside augmented images"),
}

USAGE = """usage: convoy data COMMAND [--flag=value ...]

{commands}

convoy data COMMAND --help lists the flags of a command."""


def main(argv: list[str]) -> int:
    return verbs.dispatch("convoy data", COMMANDS, argv, USAGE.format(commands=verbs.table(COMMANDS)))
