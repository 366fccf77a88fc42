"""What a newcomer's run says of its own: evaluation at chance, a batch beyond the data set, a download that failed."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.measurement import Measurement
from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.models.downloads import downloading
from convoy.trainer.outputs.alerts import Seen, evaluation_at_chance
from convoy.trainer.outputs.measured import chose, note
from convoy.trainer.processes.cluster import Cluster
from fake_run import BATCH, FakeEngine, Run


def evaluated(correct: int, counts: tuple[int, ...] = (50, 50)) -> EvaluationSums:
    """The sums of an evaluation that got so many right."""
    zeros = np.zeros(len(counts), np.int64)
    return EvaluationSums(1.0, sum(counts), correct, 0, np.array(counts), zeros, zeros)


def said(trained: float | None, sums: EvaluationSums, momentum: float | None, steps: int) -> str:
    """What is said of an evaluation after so many steps of training of this accuracy."""
    train = [{"step": steps, "epoch": 1.0, "loss": 0.5, "accuracy": trained}] if trained is not None else []
    return evaluation_at_chance(Seen(train, [], ["a", "b"], [], sums.count, sums.predicted, sums.correct, momentum))


@pytest.mark.parametrize(
    ("trained", "sums", "told"),
    [
        (0.95, evaluated(50), True),
        (0.95, evaluated(30), True),
        (0.95, evaluated(58), True),
        (0.95, evaluated(75), False),
        (0.55, evaluated(50), False),
        (None, evaluated(50), False),
        (0.95, evaluated(90, (90, 10)), True),
        (0.91, evaluated(90, (90, 10)), False),
        (1.0, evaluated(100, (100, 0)), False),
    ],
)
def test_evaluation_at_chance_while_training_is_right_is_told(trained, sums, told):
    assert bool(said(trained, sums, 0.99, 100)) is told


@pytest.mark.parametrize(
    ("momentum", "steps", "share"),
    [(0.99, 100, "37%"), (0.99, 300, "5%"), (0.999, 2000, "14%"), (0.9, 300, ""), (None, 9, "")],
)
def test_the_momentum_of_batch_normalization_is_named_where_it_can_be_the_cause(momentum, steps, share):
    sentence = said(0.95, evaluated(50), momentum, steps)
    named = f"whose averages are still {share} what they began with, after {steps:,} steps of momentum {momentum}"
    assert (named in sentence) is bool(share)
    assert sentence.startswith("evaluation is at chance (50.0%) while training is right (95.0%); likely causes: ")
    assert "held-out images of another kind" in sentence


class StaleEngine(FakeEngine):
    """Right in training, at chance in every evaluation."""

    normalization_momentum = 0.99

    def train(self, steps):
        result = super().train(steps)
        return SimpleNamespace(**{**vars(result), "correct": BATCH * len(result.losses)})

    def evaluate(self, examples, stop, keep=None):
        super().evaluate(examples, stop, keep)
        return evaluated(50)


def test_a_run_says_it_once(tmp_path, capsys):
    Run(tmp_path / "run").attempt(StaleEngine())
    out = capsys.readouterr().out
    assert out.count("Note: evaluation is at chance") == 1
    assert "after 4 steps of momentum 0.99 (build its layers with momentum=0.9, or train longer)" in out


@pytest.mark.parametrize(
    ("batch_size", "leader", "says"), [(1000, True, False), (1001, True, True), (1001, False, False)]
)
def test_a_batch_beyond_the_data_set_is_told_before_memory_runs_out(capsys, batch_size, leader, says):
    from convoy.trainer import experiment

    data = SimpleNamespace(epoch=1000, dataset=SimpleNamespace(image_shape=(10**6, 10**6, 3)))
    config = RunConfig(data=DataConfig("digits"), batch_size=batch_size)
    with pytest.raises(exits.CannotRun, match="the images of a batch have"):
        experiment._check_batch(config, data, Cluster(index=0 if leader else 1, processes=2))
    told = "Note: --batch_size=1001 is more than an epoch, 1,000 examples: every step sees examples more than once"
    assert (told in capsys.readouterr().out) is says


class HubError(Exception):
    __module__ = "huggingface_hub.errors"


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        Exception("URL fetch failure on https://a.example/w.h5: None -- no address"),
        URLError(socket.gaierror(-2, "Name or service not known")),
        ConnectionResetError("reset"),
        TimeoutError(),
        HubError("no such file"),
        raised(OSError("cannot load it"), HubError("offline")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_download_that_fails_in_a_users_own_model_is_a_sentence(error):
    words = "^--model=mine:build needs a file that cannot be downloaded"
    with pytest.raises(exits.CannotRun, match=words), downloading("mine:build"):
        raise error


@pytest.mark.parametrize(
    "error", [Exception("a user's"), ValueError("a shape"), OSError("a file"), KeyError("x")], ids=repr
)
def test_what_else_a_users_own_model_raises_stays(error):
    with pytest.raises(type(error)), downloading("mine:build"):
        raise error


@pytest.mark.parametrize(
    ("split", "chosen", "says"),
    [("test", False, ""), ("eval", True, "chose the best"), ("train", False, "was trained on")],
)
def test_a_measurement_says_on_which_examples_it_was_made(split, chosen, says):
    assert says in note(split, chosen)
    values = {
        "step": 7,
        "split": split,
        "examples": 1,
        "loss": 0.5,
        "accuracy": 1.0,
        "mean_recall": 1.0,
        "per_class": {},
    }
    shown = repr(Measurement.from_dict({**values, "chose_checkpoint": chosen}, "here"))
    assert f"100.00% of 1 {split} example right" in shown
    assert ("Note:" in shown) is bool(says)
    assert Measurement.from_dict(values, "here").chose_checkpoint is False, "of a version that did not say"


@pytest.mark.parametrize(
    ("split", "eval_split", "so"),
    [("eval", "hash:0.1", True), ("hash:0.1", "auto", True), ("validation", "auto", True), ("validation", "validation", True),
     ("validation", "hash:0.1", False), ("test", "auto", False), ("test", "test", True), ("holdout", "auto", False),
     ("train", "none", False)],
)  # fmt: skip
def test_which_examples_chose_the_checkpoint(split, eval_split, so):
    assert chose(split, eval_split) is so
