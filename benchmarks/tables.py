"""Writes the README's tables from results/*.csv: `python benchmarks/tables.py`. A test holds the README against it."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def article_cifar10() -> str:
    """The two sides: median seconds with their spread, mean accuracy with its standard deviation."""
    with (HERE / "results" / "article_cifar10.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [
        "| 10 epochs of CIFAR-10, training and test | batch | seconds, median (spread) | accuracy, mean ± sd |",
        "|---|---|---|---|",
    ]
    medians = {}
    for side, name in (
        ("article", "the tutorial in Keras, mended"),
        ("convoy", "Convoy, recipes/article_cifar10.flags"),
    ):
        own = [row for row in rows if row["side"] == side]
        seconds, accuracy = [float(row["seconds"]) for row in own], [float(row["accuracy"]) for row in own]
        medians[side] = statistics.median(seconds)
        lines.append(
            f"| {name} | {own[0]['batch_size']} | {medians[side]:.0f} ({min(seconds):.0f} to {max(seconds):.0f})"
            f" | {statistics.mean(accuracy):.2%} ± {statistics.stdev(accuracy):.2%} |"
        )
    first = rows[0]
    lines.append(
        f"\n{medians['article'] / medians['convoy']:.1f} times as fast; {len(rows) // 2} seeds a side in turn on"
        f" {first['machine']}, TensorFlow {first['tensorflow']}, Keras {first['keras']}, {first['date']}"
        " ([rows](benchmarks/results/article_cifar10.csv), `make bench`)."
    )
    return "\n".join(lines)


def digits() -> str:
    """`make train` in one sentence."""
    with (HERE / "results" / "digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    seconds, accuracy = [float(row["seconds"]) for row in rows], [float(row["accuracy"]) for row in rows]
    return (
        f"`make train`'s recipe reaches {statistics.median(accuracy):.1%} of the 376 held-out digits"
        f" ({min(accuracy):.1%} to {max(accuracy):.1%}, {len(rows)} seeds) in {statistics.median(seconds):.0f} s of training on"
        " the same machine ([rows](benchmarks/results/digits.csv))."
    )


TABLES = {"article_cifar10": article_cifar10, "digits": digits}


def filled(text: str) -> str:
    """`text` with every table between `<!-- table NAME -->` and `<!-- end -->` made anew."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
