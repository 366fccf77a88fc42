"""--log_to: each figure of a step reaches a service once, and what a service does wrong ends no run."""

from __future__ import annotations

import json
import re
import threading
from types import SimpleNamespace

import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.config import RunConfig
from convoy.trainer.loggers import installed, loggers, sender, wandb_files
from convoy.trainer.loggers.base import RunFacts
from convoy.trainer.loggers.loggers import Loggers
from convoy.trainer.loggers.names import LOGGERS
from convoy.trainer.loggers.wandb import WandbLogger
from convoy.trainer.outputs.recorder import Recorder
from convoy.trainer.verbs import train
from fake_run import Run, assert_ends_like

FACTS = RunFacts("0" * 32, "digits", {"seed": 3}, {"report": "runs/digits/report.html"}, evaluates=True)


class Service:
    """A service that remembers; `fails_at` raises at a step, `waits` holds every call until it is set."""

    def __init__(self):
        self.figures: list[tuple[str, int, float]] = []
        self.codes: list[int] = []
        self.fails_at, self.place = 0, "memory"
        self.waits = threading.Event()
        self.waits.set()

    def open(self, facts):
        self.facts = facts
        self.known = {(name, step) for name, step, _ in self.figures}
        return self

    def has(self, name, step):
        return (name, step) in self.known

    def log(self, step, seconds, values):
        assert self.waits.wait(60)
        if step == self.fails_at:
            raise SystemExit("no network\nand a second line")
        self.figures += [(name, step, value) for name, value in values.items()]

    def finish(self, step, figures):
        self.log(step, 0.0, {name: value for name, value in figures.items() if not self.has(name, step)})

    def close(self, code):
        self.codes.append(code)

    @property
    def points(self):
        return [(name, step) for name, step, _ in self.figures]


@pytest.fixture
def service(monkeypatch):
    service = Service()
    monkeypatch.setattr(LOGGERS, "load", lambda name: service.open)
    return service


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path))


def begun(said=None):
    opened = Loggers(["mlflow"], (said if said is not None else []).append)
    opened.begin(FACTS)
    return opened


def record(recorder, *steps):
    for step in steps:
        recorder.metrics("train", step, step / 10, step * 8, loss=1.0 / step, accuracy=None)
        recorder.metrics("eval", step, step / 10, step * 8, loss=2.0 / step)


def arrived(opened):
    """Waits until the service has everything, and the attempt ends as a killed one does: nothing is closed there."""
    opened._senders[0]._put(None)
    assert opened._senders[0].wait(60)


def test_a_killed_run_repeats_no_step_and_loses_none(service, store):
    first = begun()
    recorder = Recorder(store, 1, (first,))
    recorder.resume(0, 0)
    record(recorder, 10, 20)
    arrived(first)
    record(recorder, 30)  # written down, and killed before it was sent
    second = begun()
    recorder = Recorder(store, 2, (second,))
    recorder.resume(lines=2, step=10)  # the checkpoint knows of step 10 alone
    record(recorder, 20, 30, 40)
    arrived(second)
    assert service.points == [(f"{split}/loss", step) for step in (10, 20, 30, 40) for split in ("train", "eval")]


def test_what_an_attempt_could_not_send_the_next_one_sends(service, store):
    said = []
    service.fails_at = 20
    first = begun(said)
    recorder = Recorder(store, 1, (first,))
    record(recorder, 10, 20, 30)
    assert first._senders[0].wait(60)
    assert said[1:] == [
        "  Note: --log_to=mlflow gets nothing more of this attempt: no network. The run goes on, and metrics.jsonl has every"
        " step."
    ]
    service.fails_at = 0
    second = begun()
    recorder = Recorder(store, 2, (second,))
    recorder.resume(lines=6, step=30)
    record(recorder, 40)
    arrived(second)
    assert [step for name, step in service.points if name == "eval/loss"] == [10, 20, 30, 40]


def test_after_a_rollback_a_step_keeps_its_first_figures(service, store):
    opened = begun()
    recorder = Recorder(store, 1, (opened,))
    record(recorder, 10, 20)
    recorder.resume(lines=2, step=10)
    recorder.metrics("train", 20, 2.0, 160, loss=7.0)
    record(recorder, 30)
    arrived(opened)
    assert [(step, value) for name, step, value in service.figures if name == "train/loss"] == [
        (10, 0.1), (20, 0.05), (30, 1 / 30)
    ]  # fmt: skip


def test_the_result_comes_once_and_the_exit_code_tells_how_an_attempt_ended(service, store):
    result = {
        "step": 60, "wall_seconds": 3.5, "train": {"images_per_second": None}, "best": None,
        "eval": {"accuracy": 0.9, "loss": 0.4, "mean_recall": 0.8, "per_class": {}},
    }  # fmt: skip
    for _ in range(2):  # killed before result.json was there, and run again
        with begun() as opened:
            opened.finish(result)
    assert sorted(service.points) == [
        ("result/accuracy", 60), ("result/loss", 60), ("result/mean_recall", 60), ("result/wall_seconds", 60)
    ]  # fmt: skip
    assert service.codes == [exits.OK, exits.OK]
    with pytest.raises(exits.TryAgain), begun():
        raise exits.TryAgain("a notice came.")
    assert service.codes[2:] == [exits.TRY_AGAIN]
    assert service.facts == FACTS


def test_no_password_of_an_address_is_shown(service):
    said = []
    service.place = "http://me:secret@host/x"
    arrived(begun(said))
    assert said == ["  logs to mlflow: http://host/x"]
    assert (
        sender._shown("postgresql://me:p@ss@host/x and https://host/a@b") == "postgresql://host/x and https://host/a@b"
    )


def test_no_step_waits_for_a_service(service, store, monkeypatch):
    monkeypatch.setattr(loggers, "FINISH_SECONDS", 0.0)
    service.waits.clear()
    said = []
    with begun(said) as opened:
        record(Recorder(store, 1, (opened,)), 10, 20)  # returns although the service takes nothing
        opened.finish({"step": 20, "wall_seconds": 1.0, "train": {}, "best": None, "eval": {}})
    assert said[-1].startswith("  Note: --log_to=mlflow did not get everything within 0 s")
    service.waits.set()
    assert opened._senders[0].wait(60)
    assert service.points[-1] == ("result/wall_seconds", 20)


def test_a_service_that_fails_changes_nothing_of_a_run(service, tmp_path):
    run, alone = Run(tmp_path / "run"), Run(tmp_path / "alone")
    alone.attempt()
    service.fails_at = 4
    run.loggers = begun()
    run.attempt()
    assert run.loggers._senders[0].wait(60)
    assert_ends_like(run, alone)


def test_records_of_a_stranger_name_no_figures(service, store):
    opened = begun()
    for line in (
        {"step": 1, "split": "../x", "loss": 1.0},
        {"step": 1, "split": "train", "../loss": 1.0, "loss": "text", "accuracy": True, "gradient_norm": 2},
    ):
        opened.record(json.loads(json.dumps(line)))
    arrived(opened)
    assert service.figures == [("train/gradient_norm", 1, 2.0)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wanbd", "--log_to=wanbd is not possible: `wanbd` is no logger; did you mean wandb?"),
        (
            "mlflow,tensorboard",
            "--log_to=mlflow,tensorboard is not possible: `tensorboard` is no logger; there are mlflow, wandb, trackio.",
        ),
        ("mlflow,mlflow", "--log_to=mlflow,mlflow is not possible: give mlflow once."),
        ("wandb,", "--log_to=wandb, is not possible: `` is no logger; there are mlflow, wandb, trackio."),
    ],
)
def test_names_that_are_none(text, sentence):
    with pytest.raises(exits.CannotRun, match=f"^{re.escape(sentence)}$"):
        RunConfig(log_to=text)


def test_names_in_their_order():
    assert RunConfig(log_to="trackio,mlflow").log_to_spec.names == ("trackio", "mlflow")
    assert RunConfig().log_to_spec.names == ()


@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_an_absent_package_is_told_before_anything_starts(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "find_spec", lambda name: spec)
    sentence = (
        "--log_to=wandb needs Weights & Biases, which is not installed; pip install 'keras-convoy[wandb]', or leave wandb"
        " out."
    )
    with pytest.raises(exits.CannotRun, match=f"^{re.escape(sentence)}$") as error:
        train.main(["--dataset=digits", "--log_to=wandb", f"--run_dir={tmp_path / 'run'}"])
    assert error.value.code == 78
    assert not (tmp_path / "run").exists()


class Wandb:
    """As much of the package as WandbLogger uses, online."""

    def __init__(self, starting_step):
        self.run = SimpleNamespace(
            offline=False, url="https://wandb", starting_step=starting_step, summary={}, rows=[],
            log=lambda values, step, commit: self.run.rows.append((step, values)), finish=lambda exit_code: None,
        )  # fmt: skip

    def init(self, **values):
        self.asked = values
        return self.run

    def Settings(self, **values):  # noqa: N802 - the library's name
        return values


def test_a_row_of_wandb_is_a_whole_step(monkeypatch):
    library = Wandb(starting_step=11)
    monkeypatch.setitem(__import__("sys").modules, "wandb", library)
    for name in ("WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    logger = WandbLogger(FACTS)
    assert (library.asked["project"], library.asked["name"], library.asked["id"]) == ("convoy", "digits", "0" * 32)
    assert logger.has("eval/loss", 10)
    assert not logger.has("eval/loss", 20)
    logger.log(20, 0.0, {"train/loss": 1.0})
    assert not library.run.rows
    logger.log(20, 0.0, {"eval/loss": 2.0})
    logger.log(30, 0.0, {"train/loss": 3.0})
    logger.close(exits.TRY_AGAIN)  # asked to leave in the evaluation of step 30
    assert library.run.rows == [(20, {"train/loss": 1.0, "eval/loss": 2.0})]
    logger.finish(30, {"result/loss": 0.5})
    assert library.run.rows[1:] == [(30, {"train/loss": 3.0})]
    assert library.run.summary == {"result/loss": 0.5, "report": "runs/digits/report.html"}


def test_records_of_a_file_of_wandb_up_to_where_it_is_cut():
    texts = [bytes([size % 251]) * size for size in (5, 40_000, 0, 25_000, 70_000, 3)]
    data = bytearray(b":W&B\xe1\xbe\x00")
    for text in texts:
        place, first = 0, True
        while first or place < len(text):
            room = 2**15 - len(data) % 2**15
            if room < 7:
                data += bytes(room)
                continue
            piece = text[place : place + room - 7]
            place += len(piece)
            last = place == len(text)
            data += (
                bytes(4)
                + len(piece).to_bytes(2, "little")
                + bytes([1 if first and last else 2 if first else 4 if last else 3])
            )
            data, first = data + piece, False
    assert list(wandb_files.records(bytes(data))) == texts
    for cut in range(0, len(data), 997):
        records = list(wandb_files.records(bytes(data[:cut])))
        assert records == texts[: len(records)]
