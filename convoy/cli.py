"""The front door: `convoy VERB ...` opens the main of one module, imported only then."""

from __future__ import annotations

import sys

from convoy import __version__, exits, verbs

VERBS = {
    "train": ("convoy.trainer.verbs.train:main", "train an image classifier, or continue a run"),
    "evaluate": ("convoy.trainer.verbs.evaluate:main", "measure a run's checkpoint on any split of its data set"),
    "checkpoints": ("convoy.trainer.verbs.checkpoints:main", "list, verify or copy the checkpoints of a run"),
    "bench": ("convoy.trainer.verbs.bench:main", "measure how fast input and step are, alone and together"),
    "data": ("convoy.data.cli:main", "pack a data set into few large files, or preview it"),
    "launch": ("convoy.launch.cli:main", "submit to this machine, Kubernetes or Cloud TPU, and look after the jobs"),
}

HELP = """Convoy {version}: train Keras image classifiers with one command, and get the same result again.

usage: convoy VERB [--flag=value ...]

{verbs}

convoy VERB --help lists the flags of a verb.

  convoy train                                          handwritten digits, a few seconds
  convoy train --dataset=cifar10 --augment=article      the real CIFAR-10
  convoy train --dataset=folder:PATH --image_size=96    your own photographs, a folder per class"""


def usage() -> str:
    return HELP.format(version=__version__, verbs=verbs.table(VERBS))


def dispatch(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        print(f"convoy {__version__}")
        return exits.OK
    return verbs.dispatch("convoy", VERBS, argv, usage())


def main() -> None:
    exits.call(lambda: dispatch(sys.argv[1:]))
