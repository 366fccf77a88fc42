"""A source, an augmentation or a balance is a row and a file: toys of each in a file of their own, and all rows there are."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from convoy import exits, help_text
from convoy.data.augment.names import AUGMENTATIONS, Augmentation, Number, Stage
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.records.packing import pack
from convoy.data.sources.names import SOURCES, TFDS, Source
from convoy.data.sources.opening import open_dataset
from convoy.data.specs import BALANCES, Balance
from convoy.trainer.outputs.advice import remedies

pytestmark = pytest.mark.slow  # graphs

TOYS = """
import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory


def parse(text, argument):
    if not argument.isdigit():
        raise exits.CannotRun(f"--dataset={text}: give a number.")
    return int(argument)


def open_ramp(config):
    images = np.arange(config.dataset_spec.value, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return DataSet(config.dataset, ("even", "odd"), (2, 2, 1), {"train": lambda: InMemory(images, images[:, 0, 0, 0] % 2)})


def faster(config):
    return ["a shorter ramp"]


def brighter(images, positions, by):
    return images + tf.cast(by, tf.uint8)


def rarest(counts, beta):
    return np.where(counts == counts[counts > 0].min(), counts, 0)
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("toys", None)
    ramp = Source("toys:open_ramp", "a ramp of N levels", argument="N", parse="toys:parse", remedies="toys:faster")
    monkeypatch.setitem(SOURCES.rows, "ramp", ramp)
    brighter = Augmentation(
        "toys:brighter", "lighter by so much", stage=Stage.LEVELS, argument="BY", numbers=(Number(3, 9),)
    )
    monkeypatch.setitem(AUGMENTATIONS.rows, "brighter", brighter)
    monkeypatch.setitem(BALANCES.rows, "rarest", Balance("toys:rarest", "the smallest class alone"))
    yield
    sys.modules.pop("toys", None)


def test_a_run_uses_the_rows(toys):
    opened = open_splits(DataConfig("ramp:7", augment="brighter:5+flip", balance="rarest", eval_split="none"))
    assert opened.draws_per_class.tolist() == [0, 3]
    stream = training_stream(opened.train, BatchSharding(3), opened.config, seed=0, first_position=0)
    batch = next(stream.as_numpy_iterator())
    assert sorted(batch.images[:, 0, 0, 0].tolist()) == [6, 8, 10]
    assert remedies(opened.config)[0] == "a shorter ramp"


def test_a_new_source_can_be_packed(toys, tmp_path):
    pack(DataConfig("ramp:9"), tmp_path / "packed", 1000)
    train = open_dataset(DataConfig(f"records:{tmp_path / 'packed'}")).split("train")
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_help_and_refusals_come_from_the_rows(toys):
    text = " ".join(help_text.of_verb("", DataConfig).split())
    for row in ("ramp:N: a ramp of N levels", "brighter:BY: lighter by so much", "rarest: the smallest class alone"):
        assert row in text
    for flags, sentence in (
        ({"dataset": "ramp:x"}, "give a number"),
        ({"dataset": "ramp"}, "write ramp:N"),
        ({"augment": "brightr"}, "did you mean brighter?"),
        ({"augment": "brighter:10"}, "above 0 and at most 9, for example brighter:3"),
        ({"balance": "rarest:2"}, "--balance=rarest:2 is not possible"),
    ):
        with pytest.raises(exits.CannotRun, match=sentence.replace("?", r"\?")):
            DataConfig(**flags)


ROWS = {
    **{f"source {name}": row for name, row in SOURCES.items()},
    "source of TFDS": TFDS,
    **{f"augmentation {name}": row for name, row in AUGMENTATIONS.items()},
    **{f"balance {name}": row for name, row in BALANCES.items()},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_a_row_names_exists(row):
    assert row.help
    for target in (row.target, getattr(row, "parse", ""), getattr(row, "remedies", "")):
        assert not target or callable(pkgutil.resolve_name(target))


@pytest.mark.parametrize("row", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_an_augmentation_has_a_number_for_each_part_of_its_argument(row):
    assert len(row.numbers) == (len(row.argument.split(":")) if row.argument else 0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_images_or_targets(name):
    data = DataConfig("synthetic:12x10x3:4:40", augment=name, eval_split="none")
    plain = DataConfig("synthetic:12x10x3:4:40", eval_split="none")
    batches = [
        next(training_stream(open_splits(each).train, BatchSharding(40), each, 1, 0).as_numpy_iterator())
        for each in (data, plain)
    ]
    assert not np.array_equal(batches[0].images, batches[1].images)


def test_the_flags_of_a_data_set_start_nothing_heavy():
    program = (
        "import sys; from convoy.data.config import DataConfig;"
        "DataConfig('synthetic:8x8x3:2:9', augment='photo+mixup', balance='sqrt', eval_split='hash:0.2');"
        "print({'tensorflow', 'numpy', 'PIL'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
