"""A whole run with --balance and --loss: how long it is, what the loss is told, what the start and the result say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convoy.data.balance import draws_per_class
from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory
from convoy.data.specs import BalanceSpec
from convoy.trainer import run
from convoy.trainer.config import RunConfig
from convoy.trainer.losses import build

TRAINED, TESTED = np.array([150, 60, 20, 5]), np.array([8, 8, 8, 8])


def examples(counts: np.ndarray) -> InMemory:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = (
        np.random.default_rng(len(labels)).integers(0, 60, (len(labels), 8, 8, 1)) + 60 * labels[:, None, None, None]
    )
    return InMemory(images, labels)


@pytest.fixture(autouse=True)
def long_tail(monkeypatch):
    splits = {"train": lambda: examples(TRAINED), "test": lambda: examples(TESTED)}
    dataset = DataSet("tail", ("a", "b", "c", "d"), (8, 8, 1), splits)
    monkeypatch.setattr("convoy.data.opening.open_dataset", lambda config, download: dataset)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balance", "said"),
    [
        ("oversample", "oversample: 150 to 5 examples a class -> 59 to 58 draws per epoch"),
        ("undersample", "undersample: 150 to 5 examples a class -> 5 draws each per epoch"),
    ],
)
def test_a_run(balance, said, tmp_path, monkeypatch, capsys):
    frequencies = []
    logit_adjusted = build.logit_adjusted
    monkeypatch.setattr(
        build,
        "logit_adjusted",
        lambda *tau, **given: frequencies.append(given["draws"]) or logit_adjusted(*tau, **given),
    )
    data = DataConfig("tail", eval_split="none", balance=balance)
    config = RunConfig(
        str(tmp_path / "run"), data, batch_size=8, duration="3ep", loss="logit_adjusted", devices="cpu:1"
    )
    result = run.run(config)
    draws = draws_per_class(TRAINED, BalanceSpec.parse(balance))
    [given] = frequencies
    assert given.tolist() == draws.tolist()
    assert result["step"] == math.ceil(3 * draws.sum() / 8)
    assert result["epoch"] == pytest.approx(result["step"] * 8 / draws.sum())
    text = " ".join(capsys.readouterr().out.split())
    assert said in text
    assert "235 examples" in text
    measured = result["eval"]
    recalls = [measured["per_class"][name]["recall"] for name in "abcd"]
    assert measured["mean_recall"] == pytest.approx(np.mean(recalls))
    assert {name: (one["classes"], one["examples"]) for name, one in measured["groups"].items()} == {
        "many": (1, 8), "medium": (2, 16), "few": (1, 8)
    }  # fmt: skip
    assert measured["groups"]["medium"]["recall"] == pytest.approx(np.mean(recalls[1:3]))
