"""The front door: `convoy VERB ...` opens the module of one verb, imported only then."""

from __future__ import annotations

import sys

from convoy import __version__, entry, exits, supervise
from convoy.table import Entry, Table
from convoy.verbs import Command

USAGE = f"""Convoy {__version__}: train Keras image classifiers with one command, and get the same result again.

usage: convoy VERB [--flag=value ...]

{{verbs}}

convoy VERB --help lists the flags of a verb.

  convoy train                                          handwritten digits, a few seconds
  convoy train --dataset=cifar10 --augment=article      the real CIFAR-10
  convoy train --dataset=folder:PATH --image_size=96    your own photographs, a folder per class"""

CONVOY = Command(
    "convoy",
    USAGE,
    Table(
        "verb",
        {
            "train": Entry("convoy.trainer.verbs.train:VERB", "train an image classifier, or continue a run"),
            "evaluate": Entry(
                "convoy.trainer.verbs.evaluate:VERB", "measure a run's checkpoint on any split of its data set"
            ),
            "predict": Entry("convoy.trainer.verbs.predict:VERB", "say what a run's model sees in image files"),
            "try": Entry(
                "convoy.trainer.verbs.tryout:VERB",
                "open a page on this machine: drop a photograph, see what a run says",
            ),
            "report": Entry(
                "convoy.trainer.verbs.report:VERB", "write a run's page: where it is right, and where it fails"
            ),
            "checkpoints": Entry(
                "convoy.trainer.verbs.checkpoints:CHECKPOINTS", "list, verify or copy the checkpoints of a run"
            ),
            "bench": Entry(
                "convoy.trainer.verbs.bench:BENCH", "measure how fast input and step are, alone and together"
            ),
            "models": Entry("convoy.trainer.verbs.models:show", "list the networks that --model takes by name"),
            "data": Entry("convoy.data.cli:DATA", "pack a data set into few large files, or preview it"),
            "launch": Entry(
                "convoy.launch.cli:LAUNCH", "submit to this machine, Kubernetes or Cloud TPU, and look after the jobs"
            ),
        },
    ),
)


def dispatch(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        print(f"convoy {__version__}")
        return exits.OK
    return CONVOY(argv)


def main() -> None:
    supervise.follow_parent()  # convoy.calling, where that started us
    entry.call(lambda: dispatch(sys.argv[1:]))
