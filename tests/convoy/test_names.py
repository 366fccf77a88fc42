"""docs/names.md lists the rows of every table of names. CONVOY_UPDATE_GOLDEN=1 rewrites it."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator

import pytest

from convoy.data.augment.names import AUGMENTATIONS
from convoy.data.corruptions.names import CORRUPTIONS
from convoy.data.sources.names import SOURCES
from convoy.data.specs import BALANCES
from convoy.elsewhere import ROWS
from convoy.launch.targets.names import TARGETS
from convoy.table import Entry, Table
from convoy.trainer.evaluations.names import VIEWS
from convoy.trainer.flags.choices import BACKENDS, ON_NAN, PRECISIONS, STRATEGIES
from convoy.trainer.flags.recipes import table as recipe_table
from convoy.trainer.flags.scale_lr import RULES
from convoy.trainer.loggers.names import LOGGERS
from convoy.trainer.losses.names import LOSSES
from convoy.trainer.models.names import MODELS
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.names import SCHEDULES
from support import REPOSITORY

PAGE = REPOSITORY / "docs" / "names.md"
TABLES: dict[str, tuple[str, Table]] = {
    "model": ("trainer/models/names.py", MODELS),
    "optimizer": ("trainer/optimizers/names.py", OPTIMIZERS),
    "schedule": ("trainer/schedules/names.py", SCHEDULES),
    "scale_lr": ("trainer/flags/scale_lr.py", RULES),
    "recipe": ("trainer/flags/recipes.py", recipe_table()),
    "loss": ("trainer/losses/names.py", LOSSES),
    "dataset": ("data/sources/names.py", SOURCES),
    "augment": ("data/augment/names.py", AUGMENTATIONS),
    "balance": ("data/specs.py", BALANCES),
    "precision": ("trainer/flags/choices.py", PRECISIONS),
    "backend": ("trainer/flags/choices.py", BACKENDS),
    "strategy": ("trainer/flags/choices.py", STRATEGIES),
    "on_nan": ("trainer/flags/choices.py", ON_NAN),
    "tta": ("trainer/evaluations/names.py", VIEWS),
    "corruptions": ("data/corruptions/names.py", CORRUPTIONS),
    "log_to": ("trainer/loggers/names.py", LOGGERS),
    "target": ("launch/targets/names.py", TARGETS),
}
HEAD = """# The names that flags take

Written from the tables of names in the code; a test compares both. To add a name, add a row to the file named here and a module
with what the row opens ([adding something](architecture.md)).
"""


def page() -> str:
    sections = (line for flag, (place, table) in TABLES.items() for line in section(flag, place, table))
    return "\n".join([HEAD, *sections, *elsewhere()])


def elsewhere() -> Iterator[str]:
    yield "## Flags that other trainers call otherwise\n"
    yield "In convoy/elsewhere.py. Whoever writes the left is told the right; a number, or a place, is taken over.\n"
    yield "| elsewhere | here |"
    yield "|---|---|"
    for row in ROWS:
        names = ", ".join(f"`{name}`" for name in row.names.split())
        here, _, why = row.written("").partition(" (")
        text = f"`{here}`" if row.flag else here
        yield f"| {names} | {text}{f'; {why[:-1]}' if why else ''} |"
    yield ""


def section(flag: str, place: str, table: Table) -> Iterator[str]:
    yield f"## --{flag}\n"
    yield f"In {place}.\n"
    yield "| name | what it is | source | |"
    yield "|---|---|---|---|"
    for name, row in table.items():
        yield f"| `{table.syntax(name)}` | {row.help} | {row.source} | {needs(row)} |"
    yield ""


def needs(row: Entry) -> str:
    """What else a person should know of a row."""
    rate = getattr(row, "learning_rate", None)
    facts = [f"--learning_rate={rate:g} unless given"] if rate else []
    if row.options:
        facts.append("takes " + ", ".join(f"--{name}" for name in row.options))
    return "; ".join(facts)


def test_the_page_of_names_has_the_rows_of_the_tables():
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "CONVOY_UPDATE_GOLDEN=1 pytest tests/convoy/test_names.py writes it anew"


@pytest.mark.parametrize("flag", TABLES)
def test_every_row_opens_something_and_has_a_line_of_help(flag):
    place, table = TABLES[flag]
    assert (REPOSITORY / place).is_file()
    for name, row in table.items():
        assert row.help, name
        assert "\n" not in row.help
        if row.target:
            assert pkgutil.resolve_name(row.target)
