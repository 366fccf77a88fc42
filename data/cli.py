"""`convoy data COMMAND`: opens the main of the command's module, imported only then."""

from __future__ import annotations

import difflib
import importlib

from convoy import exits

# command -> (module with a `main(argv) -> int`, what it does)
COMMANDS = {
    "pack": ("data.pack", "pack a data set into few large files, which are read faster"),
    "preview": ("data.preview", "draw what the model will see, originals beside augmented images"),
}

USAGE = """usage: convoy data COMMAND [--flag=value ...]

{commands}

convoy data COMMAND --help lists the flags of a command."""


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())))
        return exits.OK
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `convoy data {near[0]}`?" if near else f"the commands are {', '.join(COMMANDS)}."
        raise exits.UsageError(f"there is no `convoy data {name}`; {hint}")
    return importlib.import_module(COMMANDS[name][0]).main(rest)
