"""`convoy try`: opens what it names. trainer/tryout shows the page.

`python -m convoy.trainer.verbs.tryout FLAGS` is the same without its parent.
"""

from __future__ import annotations

from convoy import loopback, options
from convoy.store import open_store
from convoy.trainer import engines
from convoy.trainer.checkpoints.manager import find
from convoy.trainer.flags.prediction import TryConfig
from convoy.trainer.run_dir import opening
from convoy.verbs import ChildVerb

USAGE = """usage: convoy try --run_dir=DIR [--flag=value ...]

Opens a page for a browser of this machine: drop a photograph on it, and see what a run's model says of it. Ctrl-C ends it."""


def _parse(argv: list[str]) -> TryConfig:
    return TryConfig(**options.parse(argv, TryConfig))


def _work(config: TryConfig) -> None:
    store = open_store(config.run_dir)
    stored = opening.trained_config(store, config.run_dir)
    find(store, config.checkpoint)
    with loopback.Server(config.port) as server:
        engines.choose(config.backend or stored.unchecked.backend, stored.unchecked.onednn)
        from convoy.trainer.tryout import page  # imports Keras, which now has the right backend

        page.serve(config, server)


VERB = ChildVerb(USAGE, (TryConfig,), _parse, _work, module="convoy.trainer.verbs.tryout")

if __name__ == "__main__":
    VERB.child()
