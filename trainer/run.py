"""A run, from its configuration to its result: `run(RunConfig(...))`.

`python -m convoy.trainer.run FLAGS` is the run without its parent; `convoy train` starts it as a child. What needs an engine is
told in attempt.py.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from convoy import entry, exits, heartbeat, supervise
from convoy.data.records.caches import is_remote
from convoy.data.sources import places
from convoy.store import Store, open_store
from convoy.store.nowhere import NowhereStore
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.checkpoints import format
from convoy.trainer.config import RunConfig
from convoy.trainer.loggers import installed
from convoy.trainer.models import own_module
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.outputs import summary
from convoy.trainer.outputs.display import Display
from convoy.trainer.outputs.status import Status
from convoy.trainer.processes import cluster, preemption
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.stored_config import StoredConfig

BEGAN = time.time()  # of this process, before anything heavy is imported


def run(config: RunConfig, signals: Signals | None = None) -> dict[str, Any]:
    """Trains to the end, or continues, and returns what result.json says.

    Args:
      config: the run; its `auto` values are resolved here.
      signals: guards that are installed already; without them the process's signal handlers are left alone.

    Raises:
      exits.ConvoyError: an end that a person can act on, with its exit code.
    """
    config = config.with_defaults()
    processes = cluster.from_environment(config.backend)
    store = open_store(config.run_dir) if processes.is_leader else NowhereStore()
    if not is_remote(store.url):
        with contextlib.suppress(FileNotFoundError):
            opening.stored_config(store)  # a folder that holds no run gets no lock
    with store.locked(), Status(store) as status:
        stored = opening.stored_config(store)
        config, load = _as_begun(config, store, stored)
        # Other processes would wait for this one.
        if processes.processes == 1 and (result := _finished(config, store, stored)):
            return result
        places.check(config.data)
        own_module.check(config.model)
        installed.check(config.log_to)
        with heartbeat.beating():
            engines.choose(config.backend, config.onednn)
            from convoy.trainer.attempt import attempt  # imports Keras, which now has the right backend
        return attempt(config, store, stored, status, signals, BEGAN, load)


def is_finished(config: RunConfig) -> bool:
    """Whether nothing is left to do of a run, which is shown then; CannotRun where another run lives in its directory."""
    config, store = config.with_defaults(), open_store(config.run_dir)
    stored = opening.stored_config(store)
    config, _ = _as_begun(config, store, stored)
    return _finished(config, store, stored) is not None


def _finished(config: RunConfig, store: Store, stored: StoredConfig | None) -> dict[str, Any] | None:
    result = opening.finished_without_data(config, store, stored)
    if result:
        summary.show_finished(Display(), config, result, store)
    return result


def _as_begun(config: RunConfig, store: Store, stored: StoredConfig | None) -> tuple[RunConfig, bool]:
    """The configuration without what --pretrained decides and with the ways to compute of a run that goes on; and whether
    pretrained weights are to be loaded: a checkpoint has its own.

    Every process of a run comes to the same answer, if it can see the run directory.
    """
    seen = store if store.url else open_store(config.run_dir)  # a leader's, which has read it
    begun = stored if store.url else opening.begun_config(seen)
    config = begun.computing(config) if begun else config
    if not config.pretrained:
        return config, False
    return settle(config, begun), not (begun and format.complete(seen))


def main(argv: list[str]) -> int:
    """The child of `convoy train`: one attempt."""
    signals = Signals()
    signals.install()
    supervise.follow_parent()
    preemption.watch(signals.on_notice)
    run(configuration.from_argv(argv), signals)
    return exits.OK


if __name__ == "__main__":
    entry.call(lambda: main(sys.argv[1:]))
