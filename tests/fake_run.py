"""A run of the loop with a stand-in for the engine, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from convoy.chaos import Chaos
from convoy.data.config import DataConfig
from convoy.data.opening import Splits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import format, select
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.experiment import Experiment
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loggers.loggers import Loggers
from convoy.trainer.loop.loop import Loop
from convoy.trainer.loop.plan import Plan
from convoy.trainer.loop.progress import Progress
from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.outputs.display import Display
from convoy.trainer.outputs.records import read_metrics
from convoy.trainer.processes.cluster import Cluster
from convoy.trainer.processes.signals import Signals
from convoy.trainer.session import Session

BATCH, EPOCH, HELD_OUT = 8, 40, 20
NAN = float("nan")


class FakeEngine:
    """A model of one weight, into which every step mixes the positions that it trains on.

    Args:
      nan_at: positions whose batch has a loss of NaN.
      skips: whether such a step changes nothing, as with --on_nan=skip; otherwise the weight is NaN from then on.
      overflows_at: a step that makes the weight infinite, although its loss is finite.
      accuracies: of the evaluation at a step; 0.5 at others.
      losses: of the evaluation at a step; 1.0 at others.
      at_step: step -> what is done once it was made.
      in_evaluation: likewise, when the evaluation at that step begins.
      in_save: likewise, when that step is saved.
    """

    description, replicas, parameters, warms_up = "a stand-in", 1, 1, False
    normalization_momentum = None

    def __init__(
        self,
        nan_at=(),
        skips=False,
        overflows_at=None,
        accuracies=None,
        losses=None,
        at_step=None,
        in_evaluation=None,
        in_save=None,
    ):
        self.nan_at, self.skips, self.overflows_at = set(nan_at), skips, overflows_at
        self.accuracies, self.losses = accuracies or {}, losses or {}
        self.at_step, self.in_evaluation, self.in_save = at_step or {}, in_evaluation or {}, in_save or {}
        self.cluster, self.notes, self.calls = Cluster(), [], []
        self.weight, self.iterations, self.position = 0.0, 0, 0
        self.clock, self.entered, self.batch_size = Clock.steady(EPOCH, BATCH), 0, BATCH
        self.seen: list[int] = []  # positions of steps that counted

    def feed(self, examples, first_position, cached=0):
        self.position, self.batch_size = first_position, self.clock.batch_size(self.entered)

    def enter_stage(self, step):
        self.entered = step
        self.calls.append(f"stage of {step}")

    def compile_ahead(self, step, examples):
        self.calls.append(f"compile for {step}")

    def compile(self):
        self.calls.append("compile")

    def train(self, steps):
        self.calls.append("train")
        losses = []
        for _ in range(steps):
            assert self.batch_size == self.clock.batch_size(self.iterations), "fed for another stage"
            batch = range(self.position, self.position + self.batch_size)
            self.position += self.batch_size
            bad = not self.nan_at.isdisjoint(batch)
            losses.append(NAN if bad else 1.0 + self.weight)
            if bad and not self.skips:
                self.weight = NAN
                break
            if not bad:
                self.weight = (self.weight * 3 + sum(batch) % 97) % 1.0 + sum(batch) % 97 / 97
                self.seen += batch
            self.iterations += 1
            if self.iterations == self.overflows_at:
                self.weight = float("inf")
            self.at_step.get(self.iterations, lambda: None)()
        finite = self.skips or np.isfinite(losses[-1])
        return LoopResult(len(losses), np.array(losses), np.ones(len(losses)), len(losses), 0.0, bool(finite))

    def evaluate(self, examples, stop, keep=None):
        self.calls.append("evaluate")
        self.in_evaluation.pop(self.iterations, lambda: None)()
        if stop():
            return None
        correct = round(self.accuracies.get(self.iterations, 0.5) * len(examples))
        sums = EvaluationSums.zero(2)
        loss = self.losses.get(self.iterations, 1.0) * len(examples)
        sums.add(EvaluationSums(loss, len(examples), correct, 0, *np.zeros((3, 2), np.int64)))
        return sums

    def check_layers(self):
        self.calls.append("check_layers")

    def state(self):
        return {"model/weight": np.array(self.weight), "optimizer/iterations": np.array(self.iterations)}

    def stream_state(self):
        self.in_save.pop(self.iterations, lambda: None)()
        return iter(self.state().items())

    def shapes(self):
        return {name: (value.shape, value.dtype) for name, value in self.state().items()}

    def check(self, state):
        if state.keys() != self.state().keys():
            raise ValueError("the model lacks a tensor")

    def restore(self, state):
        self.calls.append("restore")
        self.weight, self.iterations = float(state["model/weight"]), int(state["optimizer/iterations"])

    def learning_rate(self, step):
        return 0.1

    def any(self, flag):
        return flag

    def barrier(self): ...


class Run:
    """A run directory, and attempts at the run in it."""

    def __init__(self, place: Path):
        self.store = LocalStore(str(place))
        self.attempts = 0
        self.signals = Signals()
        self.loggers: Loggers | None = None
        self.listener = SimpleNamespace(updates=[], update=lambda *values: self.listener.updates.append(values))

    def attempt(self, engine=None, held_out=True, first_position=0, store=None, chaos="", **flags) -> Progress:
        """Begins, or goes on, as a new process would; 12 steps with evaluations every 4 and saves every 3."""
        self.attempts += 1
        self.engine = engine or FakeEngine()
        every = {"duration": "12st", "eval_every": "4st", "checkpoint_every": "3st"}
        config = RunConfig(self.store.url, DataConfig("digits"), batch_size=BATCH, **{**every, **flags})
        counts = np.array([EPOCH // 2, EPOCH // 2])
        dataset = SimpleNamespace(class_names=("cat", "dog"), origin=None)
        examples = range(HELD_OUT) if held_out else None
        data = Splits(config.data, dataset, range(EPOCH), examples, counts, counts)
        experiment = Experiment(config, data, Plan.from_config(config, EPOCH), self.engine)
        display, listeners = Display(), (self.listener,)
        with Session(
            experiment, store or self.store, self.attempts, self.signals, display, listeners, Chaos(chaos), self.loggers
        ) as session:
            self.experiment, self.session = experiment, session
            progress = session.restore(experiment) or Progress(position=first_position)
            session.recorder.resume(progress.lines, progress.step)
            self.engine.clock, self.engine.entered = experiment.plan.clock, progress.step
            self.engine.feed(data.train, progress.position)
            return Loop(experiment, session, progress).run()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.store.get("events.jsonl").splitlines()]

    def steps_of(self, event: str) -> list[int]:
        return [entry["step"] for entry in self.events if entry["event"] == event]

    @property
    def records(self) -> list[tuple]:
        """(step, split, loss, accuracy) of every record."""
        return [(line["step"], line["split"], line["loss"], line["accuracy"]) for line in read_metrics(self.store)]

    @property
    def checkpoints(self) -> list[int]:
        return [checkpoint.step for checkpoint in format.complete(self.store)]


def assert_ends_like(run: Run, other: Run) -> None:
    tensors, others = (select(each.store, "last")[1] for each in (run, other))
    assert {name: value.tobytes() for name, value in tensors.items()} == {
        name: value.tobytes() for name, value in others.items()
    }
    assert run.records == other.records
