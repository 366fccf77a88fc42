"""`convoy report`: its flags. trainer/report/page.py writes the page of a run, watch.py shows it while the run goes on, and
comparison.py writes that of several.

`python -m convoy.trainer.verbs.report FLAGS` is the work without its parent.
"""

from __future__ import annotations

import dataclasses

from convoy import destination, exits, options
from convoy.bounds import PORTS
from convoy.options import option
from convoy.outside import name_in
from convoy.store import Store, open_store
from convoy.trainer.config import RunConfig
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.files import REPORT
from convoy.verbs import Verb

USAGE = """usage: convoy report --run_dir=DIR [--watch]
       convoy report RUN RUN ... [--output=FILE]

Writes report.html into the directory of a run: what it came to, where it is wrong, how sure it is. With --watch it shows that
page as long as it runs, and with what the run has written since. Of several runs it writes a page that compares them: results,
curves, the flags that differ, and whether the best is better by more than chance."""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Whose page to write, or to show."""

    run_dir: str = option("", "the run.", group="Report")
    output: str = option(
        "comparison.html",
        "of several runs, where their page is written: a file, or a place in a bucket.",
        group="Report",
    )
    watch: bool = option(
        False, "write nothing, and show the page in a browser of this machine while the run goes on.", group="Report"
    )
    port: int = option(0, "with --watch, of 127.0.0.1 to listen on; 0: a free one.", group="Report", within=PORTS)

    def __post_init__(self) -> None:
        options.check(self)
        if self.port and not self.watch:
            raise exits.CannotRun(f"--port={self.port} needs --watch; without it, nothing is listened on.")


def _parse(argv: list[str]) -> tuple[ReportConfig, list[str]]:
    """The flags, and the runs: one or more."""
    values, words = options.parse_with_words(argv, ReportConfig)
    config = ReportConfig(**values)
    run_dirs = [*([config.run_dir] if config.run_dir else []), *words]
    if not run_dirs:
        raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
    if config.watch and len(run_dirs) > 1:
        raise exits.CannotRun("--watch shows one run; name one, or leave --watch out.")
    return config, run_dirs


def _work(parsed: tuple[ReportConfig, list[str]]) -> None:
    config, run_dirs = parsed
    if len(run_dirs) > 1 and "://" not in config.output:
        destination.check("output", config.output)
    runs = [_open(run_dir) for run_dir in run_dirs]
    from convoy.trainer.report import comparison, page, watch  # import Matplotlib

    if config.watch:
        watch.watch(runs[0][0], run_dirs[0], config.port)
    elif len(runs) == 1:
        page.write(*runs[0])
        print(f"Wrote {run_dirs[0].rstrip('/')}/{REPORT}")
    else:
        _put(config.output, comparison.page(runs))
        print(f"Wrote {config.output}")


def _open(run_dir: str) -> tuple[Store, RunConfig]:
    """A run, and its configuration with the place where it is now."""
    store = open_store(run_dir)
    trained = opening.trained_config(store, run_dir)
    return store, dataclasses.replace(trained.unchecked, run_dir=run_dir)


def _put(output: str, content: bytes) -> None:
    if "://" not in output:
        destination.write("output", output, content)
        return
    folder, _, name = output.rpartition("/")
    open_store(folder).put(name_in(name, f"--output={output}"), content)


VERB = Verb(USAGE, (ReportConfig,), _parse, _work)
