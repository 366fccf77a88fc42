"""`convoy report`: its flags. trainer/report/page.py writes the page.

`python -m convoy.trainer.verbs.report FLAGS` is the work without its parent.
"""

from __future__ import annotations

import dataclasses

from convoy import exits, options
from convoy.options import option
from convoy.store import open_store
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.files import REPORT
from convoy.verbs import verb


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Whose page to write."""

    run_dir: str = option("", "the run.", group="Report")

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
        options.check(self)


@verb(
    """usage: convoy report --run_dir=DIR

Writes report.html into the directory of a run: what it came to, where it is wrong, how sure it is.""",
    ReportConfig,
)
def write(config: ReportConfig) -> None:
    store = open_store(config.run_dir)
    trained = opening.trained_config(store, config.run_dir)
    from convoy.trainer.report import page  # imports Matplotlib

    page.write(store, dataclasses.replace(trained.unchecked, run_dir=config.run_dir))
    print(f"Wrote {config.run_dir.rstrip('/')}/{REPORT}")
