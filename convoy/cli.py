"""The front door: `convoy VERB ...` opens the main of one module, imported only then."""

from __future__ import annotations

import difflib
import importlib
import sys

from convoy import __version__, exits, layout

# verb -> (module with a `main(argv) -> int`, what it does)
VERBS = {
    "train": ("trainer.task", "train an image classifier, or continue a run"),
    "evaluate": ("trainer.evaluate", "measure a run's checkpoint on any split of its data set"),
    "bench": ("trainer.bench", "measure how fast input and step are, alone and together"),
    "data": ("data.cli", "pack a data set into few large files, or preview it"),
}

HELP = """Convoy {version}: train Keras image classifiers with one command, and get the same result again.

usage: convoy VERB [--flag=value ...]

{verbs}

convoy VERB --help lists the flags of a verb.

  convoy train                                          handwritten digits, a few seconds
  convoy train --dataset=cifar10 --augment=article      the real CIFAR-10
  convoy train --dataset=folder:PATH --image_size=96    your own photographs, a folder per class"""


def usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items())
    return HELP.format(version=__version__, verbs=verbs)


def dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return exits.OK
    if argv[0] == "--version":
        print(f"convoy {__version__}")
        return exits.OK
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `convoy {near[0]}`?" if near else f"the verbs are {', '.join(VERBS)}."
        raise exits.UsageError(f"there is no verb `{verb}`; {hint}")
    layout.check_siblings()
    return importlib.import_module(VERBS[verb][0]).main(rest)


def main() -> None:
    exits.call(lambda: dispatch(sys.argv[1:]))
