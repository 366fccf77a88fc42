"""What the tables of the documents are made of: rows, machines, spreads."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent


def rows_of(name: str) -> list[dict[str, str]]:
    with (HERE / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def machine_of(row: dict[str, str]) -> str:
    """Where, with what and when a row was measured."""
    return f"{row['machine']}, TensorFlow {row['tensorflow']}, Keras {row['keras']}, {row['date']}"


def source(name: str, more: str = "") -> str:
    """The rows of a table, and the script that measures them; `more` is another command."""
    return f"([rows](benchmarks/results/{name}.csv), `{more or f'python benchmarks/{name}.py'}`)."


def spread(row: dict[str, str]) -> str:
    return f"{float(row['images_per_second']):,.0f} ({int(row['least']):,} to {int(row['most']):,})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """In Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:], "", caption])
