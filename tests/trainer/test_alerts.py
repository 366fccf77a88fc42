"""What looks wrong with a run is said, once, and nothing is said of a run that is well."""

from __future__ import annotations

import numpy as np
import pytest

from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.outputs.alerts import ALERTS, Seen, Watch, sentences


def records(*losses: float, accuracy: float = 0.6) -> list[dict[str, float]]:
    return [
        {"step": 10 * epoch, "epoch": float(epoch), "loss": loss, "accuracy": accuracy}
        for epoch, loss in enumerate(losses, 1)
    ]


WELL = Seen(
    records(2.2, 1.5, 1.0, 0.8, 0.7), records(2.1, 1.6, 1.2, 1.1, 1.12), list("abcdefghij"), [100] * 10,
    np.full(10, 50), np.arange(45, 55),
)  # fmt: skip

CASES = {
    "it overfits: the eval loss has risen from 1.1 at epoch 2 to 1.6 while that of training fell to 0.3": {
        "train": records(2.2, 1.2, 0.8, 0.5, 0.3), "held_out": records(1.5, 1.1, 1.3, 1.5, 1.6)
    },
    "the training loss has risen from 0.8 to 2.1; try a third of --learning_rate": {
        "train": records(1.9, 0.8, 1.5, 2.1), "held_out": records(1.9, 1.8, 1.9, 2.0)
    },
    "the training loss, 2.9, stays above that of guessing all classes alike, 2.3": {
        "train": records(3.1, 2.8, 2.9)
    },
    "accuracy in training stays at chance (10.0%; guessing gives 10.0%)": {
        "train": records(2.3, 2.3, 2.3, accuracy=0.1)
    },
    "evaluation is at chance (10.0%) while training is right (90.0%); likely causes: held-out images": {
        "train": records(2.2, 1.5, 1.0, accuracy=0.9), "hits": 50
    },
    "2 classes are never predicted (a, d); try --balance=oversample": {
        "taken": np.array([0, 90, 60, 0, 50, 50, 50, 50, 50, 100])
    },
    "4 classes have fewer than 10 training examples (b, c, d and 1 more)": {"trained": [100, 1, 2, 9, 0, 5, *[100] * 4]},
    "1 class has fewer than 10 training examples (b)": {"trained": [100, 1, *[100] * 8]},
}  # fmt: skip


def test_a_run_that_is_well_gets_no_alert():
    assert sentences(WELL) == []
    assert sentences(Seen([], [], [], [])) == []
    assert sentences(Seen(records(5.0), records(5.0), ["a", "b"], [])) == [], "too little is known"


@pytest.mark.parametrize("expected", CASES)
def test_what_is_wrong_is_said(expected):
    found = sentences(WELL._replace(**CASES[expected]))
    assert len(found) == 1, found
    assert found[0].startswith(expected[0].upper() + expected[1:]), found


@pytest.mark.parametrize(
    "changed",
    [
        {"held_out": records(1.5, 1.1, 1.3, 1.5, 1.15)},  # it came back
        {"held_out": records(1.5, 1.1, 1.3, 1.5, 1.6), "train": records(2.2, 1.2, 1.3, 1.4, 1.5)},  # so does training
        {"train": records(1.9, 0.8, 2.1, 0.9)},  # one bad epoch
        {"train": records(5.0, 4.0, 2.0)},  # it is on its way
        {"train": records(2.3, 2.3, accuracy=0.1)},  # it has just begun
        {"measured": np.array([4, *[50] * 9]), "taken": np.array([0, *[50] * 9])},  # hardly an example of it
        {"train": [{"epoch": 1.0, "loss": None, "accuracy": None}] * 9, "held_out": []},
    ],
)
def test_what_may_still_be_well_is_not_said(changed):
    assert sentences(WELL._replace(**changed)) == []


def test_two_classes_are_at_chance_at_a_half():
    two = WELL._replace(names=["a", "b"], trained=[50, 50], measured=None, taken=None)
    assert "guessing gives 50.0%" in sentences(two._replace(train=records(0.69, 0.69, 0.69, accuracy=0.52)))[0]
    assert sentences(two._replace(train=records(0.69, 0.6, 0.5, accuracy=0.6))) == []


def test_each_alert_is_given_once():
    sums = EvaluationSums(1.0, 500, 300, 400, np.full(10, 50), np.array([0, 100, *[50] * 8]), np.full(10, 30))
    watch = Watch(list("abcdefghij"), [100] * 9 + [3])
    given = []
    for epoch in range(1, 6):
        watch.record("train", 10 * epoch, float(epoch), {"loss": 2 / epoch, "accuracy": 0.5})
        watch.record("eval", 10 * epoch, float(epoch), {"loss": 2 / epoch, "accuracy": 0.5})
        given.append(watch.new(sums))
    assert [len(each) for each in given] == [1, 0, 1, 0, 0]
    assert "fewer than 10" in given[0][0]
    assert "never predicted (a)" in given[2][0]
    assert len({alert.__name__ for alert in ALERTS}) == len(ALERTS)
