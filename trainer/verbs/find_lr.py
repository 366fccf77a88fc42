"""`convoy train --find_lr`: where it writes, and what is said at the end. trainer/rate_search.py trains.

`python -m convoy.trainer.verbs.find_lr FLAGS` is the search without its parent.
"""

from __future__ import annotations

import sys

from convoy import entry, exits, heartbeat, supervise
from convoy.data.sources import places
from convoy.store import Store, open_store
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.models import own_module
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.processes import cluster
from convoy.trainer.run_dir import commands
from convoy.trainer.run_dir.files import RATE_CURVE, RATES

SUFFIX = "-find_lr"


def directory(run_dir: str) -> str:
    """Where the search of a run writes: beside the run's own directory, which stays as it is."""
    return run_dir.rstrip("/") + SUFFIX


def search(argv: list[str], config: RunConfig) -> int:
    """The parent: starts the search as a child, and returns its exit code.

    Args:
      argv: the flags.
      config: what they say, with a run directory.
    """
    return supervise.run(supervise.module("convoy.trainer.verbs.find_lr", [*argv, f"--run_dir={config.run_dir}"]))


def work(config: RunConfig) -> None:
    """The child: searches, and prints the rate and the command that trains with it.

    Raises:
      exits.CannotRun: the directory holds something else, or several processes would have to search together.
    """
    if cluster.from_environment(config.backend).processes > 1:
        raise exits.CannotRun(
            "--find_lr searches in one process; start it without the variables that name the others: the rate is the same for"
            " the same --batch_size."
        )
    config = settle(config.with_defaults())
    store = open_store(directory(config.run_dir))
    _check_place(store)
    places.check(config.data)
    own_module.check(config.model)
    with store.locked():
        with heartbeat.beating():
            engines.choose(config.backend, config.onednn)
            from convoy.trainer import rate_search  # imports Keras, which now has the right backend
        result = rate_search.search(config, store)
    print(f"{result.sentence}\nThe losses are in {store.url}: {RATES}, {RATE_CURVE}.")
    if result.rate is not None:
        command = commands.train(config, learning_rate=result.rate, scale_lr="none")
        print(f"This trains with it:\n  {command}")


def _check_place(store: Store) -> None:
    """Raises exits.CannotRun for a directory that holds anything but an earlier search."""
    others = [name for name in store.list_names() if name not in (RATES, RATE_CURVE)]
    if others:
        raise exits.CannotRun(
            f"{store.url} holds {others[0]}, and --find_lr would write there; move that away, or give another --run_dir."
        )


def main(argv: list[str]) -> int:
    supervise.follow_parent()
    values = configuration.parse(argv)
    work(configuration.from_dict(values))
    return exits.OK


if __name__ == "__main__":
    entry.call(lambda: main(sys.argv[1:]))
