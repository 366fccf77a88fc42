"""`convoy train`: reads the flags, starts the run as a child, and returns its exit code."""

from __future__ import annotations

import sys

from convoy import entry, supervise
from convoy.data.config import DataConfig
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.processes import cluster
from convoy.verbs import Verb

USAGE = """usage: convoy train [--flag=value ...]

Trains an image classifier, evaluates it, and keeps in --run_dir all that a continuation needs: the same command continues a
run that was stopped or killed. Exit codes: 0 done, 2 a flag that does not parse, 42 try again, 65 bad data, 70 diverged,
78 not possible as configured, 130 stopped by a person."""


def main(argv: list[str], answer_seconds: float = supervise.ANSWER_SECONDS) -> int:
    """Runs the verb. `answer_seconds`: how long the run may take to answer a signal before it is killed."""
    config = configuration.from_argv(argv).with_defaults()
    # The name of a new run directory carries the time; every attempt must get the same one.
    command = supervise.module("convoy.trainer.run", [*argv, f"--run_dir={config.run_dir}"])
    hang_seconds = config.hang_seconds(cluster.from_environment(config.backend).processes)
    return supervise.run(command, config.restarts, hang_seconds, answer_seconds)


VERB = Verb(USAGE, (RunConfig, DataConfig), parse=list, work=main)

if __name__ == "__main__":
    entry.call(lambda: VERB(sys.argv[1:]))
