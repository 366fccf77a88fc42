"""`convoy train`: reads the flags, starts the run as a child, says what continues it, and returns its exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

from convoy import entry, exits, options, supervise
from convoy.data.config import DataConfig
from convoy.data.records.caches import is_remote
from convoy.data.sources import places
from convoy.store.unused import none_left
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.flags import recipes
from convoy.trainer.flags.find_lr import RateSearch
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.loggers import installed
from convoy.trainer.models import own_module
from convoy.trainer.processes import cluster
from convoy.trainer.run_dir.files import RESULT
from convoy.verbs import Verb

USAGE = """usage: convoy train [--flag=value ...]

Trains an image classifier, evaluates it, and keeps in --run_dir all that a continuation needs: the same command, with that
--run_dir, continues a run that was stopped or killed. Exit codes: 0 done, 2 a flag that does not parse, 42 try again, 65 bad
data, 70 diverged, 78 not possible as configured, 130 stopped by a person."""


def main(argv: list[str], answer_seconds: float = supervise.ANSWER_SECONDS) -> int:
    """Runs the verb. `answer_seconds`: how long the run may take to answer a signal before it is killed."""
    values = configuration.parse(argv)
    config = configuration.from_dict(values)
    # The name of a new run directory carries the time; every attempt must get the same one.
    asked = dataclasses.replace(config, run_dir=config.with_defaults().run_dir)
    if values["find_lr"]:
        from convoy.trainer.verbs import find_lr  # imports NumPy

        return find_lr.search(argv, asked)
    command = supervise.module("convoy.trainer.run", [*argv, f"--run_dir={asked.run_dir}"])
    processes = cluster.from_environment(config.backend)
    if processes.is_leader:
        for line in [*recipes.explained(argv), *_rule(config)]:
            print(line, flush=True)
    if processes.processes == 1 and _is_answered(asked):
        return exits.OK
    with none_left(asked.run_dir) if processes.is_leader else contextlib.nullcontext():
        code = supervise.run(command, config.restarts, config.hang_seconds(processes.processes), answer_seconds)
        if code != exits.OK:
            from convoy.trainer.run_dir import endings  # imports NumPy

            with contextlib.suppress(OSError):  # of a terminal that is gone
                print(endings.after(code, asked), file=sys.stderr, end="")
    return code


def _is_answered(asked: RunConfig) -> bool:
    """Whether the run is finished, which is shown; CannotRun for what is wrong and can be told without a child."""
    if is_remote(asked.run_dir):
        return False
    run_dir = Path(asked.run_dir).expanduser()
    if (run_dir / RESULT).exists():
        from convoy.trainer import run  # imports NumPy

        return run.is_finished(asked)
    if not run_dir.exists():
        places.check(asked.data)
        own_module.check(asked.model)
        installed.check(asked.log_to)
    return False


def _rule(config: RunConfig) -> list[str]:
    """What a rule of --scale_lr sets, as a line for a person."""
    row, scaled = config.scale_lr_spec.row, config.scaled
    if not row.settles:
        return []
    settled = config.with_defaults()
    names = ["learning_rate", "warmup", *(["beta_2"] if scaled.beta_2 is not None else [])]
    flags = " ".join(options.to_flags((name, getattr(settled, name)) for name in names))
    return [f"--scale_lr={config.scale_lr}: {flags} ({scaled.why}; {row.source})"]


VERB = Verb(USAGE, (RecipeFlag, RateSearch, RunConfig, DataConfig), parse=list, work=main)

if __name__ == "__main__":
    entry.call(lambda: VERB(sys.argv[1:]))
