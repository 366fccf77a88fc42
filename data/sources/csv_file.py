"""A CSV that lists image files: a row for each, with its label, and its split and its group if there are such columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import CSV, Origin, prefix, split_of_rows
from convoy.data.images.unreadable import BadImages
from convoy.data.sources.csv_rows import Rows, read_rows
from convoy.data.sources.examples import DataSet
from convoy.data.sources.layout import SPLITS, first_few, split_of
from convoy.data.sources.listed import Listed, open_listed
from convoy.options import impossible
from convoy.outside import printable
from convoy.table import near


def open_csv(config: DataConfig) -> DataSet:
    """The files of a CSV, in order of class and name as in a folder. docs/photographs.md says what may stand in it."""
    path = Path(_expanded(str(config.dataset_spec.value)))
    root = Path(_expanded(config.data_dir)) if config.data_dir else path.parent
    rows = _read(config, path, root)
    if rows.unused:
        print(f"Note: of {rows.place} these columns are not used: {first_few(rows.unused)}.")
    if rows.groups and config.group:
        raise impossible("group", config.group, f"{rows.place} has a column group; leave one of them out")
    places, unlabelled = _splits(rows, config)
    classes = _classes(rows, places["train"])
    lists = {split: _listed(rows, root, where, classes) for split, where in places.items()}
    bad = BadImages(config.bad_images, config.max_bad_fraction, remedy=f"mend it or take its line out of {rows.place}")

    def origin(sizes: Mapping[str, np.ndarray]) -> Origin:
        parts = {
            split: split_of_rows(root, listed.paths, sizes[split], listed.labels, listed.groups or ())
            for split, listed in lists.items()
        }
        return Origin(CSV, parts)

    return open_listed(config, root, lists, tuple(classes), origin, bad, path, unlabelled)


def _read(config: DataConfig, path: Path, root: Path) -> Rows:
    try:
        if path.is_dir():
            raise exits.CannotRun(
                f"--dataset={config.dataset}: {path} is a folder; give a CSV file, or --dataset=folder:PATH for one folder"
                " of images per class."
            )
        rows = read_rows(path, root)
    except OSError as error:
        reason = exits.reason(error)
        raise exits.CannotRun(
            f"--dataset={config.dataset}: cannot read {printable(str(path))}: {reason}; give a CSV file with the columns file"
            " and label."
        ) from error
    if not rows.names:
        raise exits.BadData(f"{rows.place} lists no files; add a line for each.")
    return rows


def _splits(rows: Rows, config: DataConfig) -> tuple[dict[str, list[int]], set[str]]:
    """(split -> its rows with labels; splits that have none). All train without the column."""
    if not rows.splits:
        return {"train": list(range(len(rows.names)))}, set()
    places: dict[str, list[int]] = {split: [] for split in SPLITS}
    unlabelled = Counter[str]()
    for row, text in enumerate(rows.splits):
        if not (split := split_of(text)):
            hint = near(text.lower(), SPLITS)
            rows.refuse(row, f"has the split {printable(text[:60])}; {hint.rstrip('.')}")
        if rows.labels[row]:
            places[split].append(row)
        else:
            unlabelled[split] += 1
    if not places["train"]:
        raise exits.BadData(f"no line of {rows.place} has the split train; give some examples to train on.")
    if config.test_split == "none":
        places["test"], unlabelled["test"] = [], 0
    if unlabelled.total():
        print(
            f"Note: {unlabelled.total():,} files of {rows.place} have no label and are left out; `convoy predict` says what"
            " such images show."
        )
    empty = {split for split, count in unlabelled.items() if count and not places[split]}
    return {split: where for split, where in places.items() if where}, empty


def _classes(rows: Rows, train: Sequence[int]) -> dict[str, int]:
    """Label -> class, of the training rows: in order of text, or of value where all are whole numbers."""
    labels = {rows.labels[row] for row in train}
    if len(labels) < 2:
        raise exits.BadData(f"{rows.place} has {len(labels)} label to train on; a classifier needs at least two.")
    numbers = all(label.isascii() and label.isdigit() and len(label) < 19 for label in labels)
    key: Callable[[str], tuple[int, str]] = (
        (lambda label: (int(label), label)) if numbers else (lambda label: (0, label))
    )
    return {label: index for index, label in enumerate(sorted(labels, key=key))}


def _listed(rows: Rows, root: Path, where: Sequence[int], classes: Mapping[str, int]) -> Listed:
    for row in where:
        if rows.labels[row] not in classes:
            label = printable(rows.labels[row][:60])
            rows.refuse(row, f"has a label {label} that no training file has; those have {first_few(tuple(classes))}")
    order = sorted(where, key=rows.names.__getitem__)
    order.sort(key=lambda row: classes[rows.labels[row]])
    start = prefix(root)
    groups = [rows.groups[row] for row in order] if rows.groups else None
    return Listed([start + rows.names[row] for row in order], [classes[rows.labels[row]] for row in order], groups)


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - which leaves ~nobody as it is, where a Path raises
