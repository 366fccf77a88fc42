"""`convoy report`: its flags. trainer/report/page.py writes the page of a run, comparison.py that of several.

`python -m convoy.trainer.verbs.report FLAGS` is the work without its parent.
"""

from __future__ import annotations

import dataclasses

from convoy import destination, exits, options
from convoy.options import option
from convoy.outside import name_in
from convoy.store import Store, open_store
from convoy.trainer.config import RunConfig
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.files import REPORT
from convoy.verbs import Verb

USAGE = """usage: convoy report --run_dir=DIR
       convoy report RUN RUN ... [--output=FILE]

Writes report.html into the directory of a run: what it came to, where it is wrong, how sure it is. Of several runs it writes one
page that compares them: results, curves, the flags that differ, and whether one is better by more than chance."""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Whose page to write, and where."""

    run_dir: str = option("", "the run.", group="Report")
    output: str = option(
        "comparison.html",
        "where the page that compares several runs is written: a file, or a place in a bucket.",
        group="Report",
    )

    def __post_init__(self) -> None:
        options.check(self)


def _parse(argv: list[str]) -> tuple[ReportConfig, list[str]]:
    """The flags, and the runs: one or more."""
    values, words = options.parse_with_words(argv, ReportConfig)
    config = ReportConfig(**values)
    runs = [*([config.run_dir] if config.run_dir else []), *words]
    if not runs:
        raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
    return config, runs


def _work(parsed: tuple[ReportConfig, list[str]]) -> None:
    config, run_dirs = parsed
    if len(run_dirs) > 1 and "://" not in config.output:
        destination.check("output", config.output)
    runs = [_open(run_dir) for run_dir in run_dirs]
    if len(runs) == 1:
        from convoy.trainer.report import page  # imports Matplotlib

        page.write(*runs[0])
        print(f"Wrote {run_dirs[0].rstrip('/')}/{REPORT}")
        return
    from convoy.trainer.report import comparison

    compared = comparison.page(runs)
    if "://" in config.output:
        folder, _, name = config.output.rpartition("/")
        open_store(folder).put(name_in(name, f"--output={config.output}"), compared)
    else:
        destination.write("output", config.output, compared)
    print(f"Wrote {config.output}")


def _open(run_dir: str) -> tuple[Store, RunConfig]:
    """A run, and its configuration with the place where it is now."""
    store = open_store(run_dir)
    trained = opening.trained_config(store, run_dir)
    return store, dataclasses.replace(trained.unchecked, run_dir=run_dir)


VERB = Verb(USAGE, (ReportConfig,), _parse, _work)
