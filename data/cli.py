"""`convoy data COMMAND`."""

from __future__ import annotations

from convoy.table import Entry, Table
from convoy.verbs import Command

USAGE = """usage: convoy data COMMAND [--flag=value ...]

{verbs}

convoy data COMMAND --help lists the flags of a command."""

DATA = Command(
    "convoy data",
    USAGE,
    Table(
        "command",
        {
            "pack": Entry("convoy.data.verbs.pack:VERB", "pack a data set into few large files, which are read faster"),
            "preview": Entry(
                "convoy.data.verbs.preview:VERB", "draw what the model will see, originals beside augmented images"
            ),
        },
    ),
)
