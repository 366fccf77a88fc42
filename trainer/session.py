"""What accompanies one attempt at a run: where it writes, what it tells, and what may ask it to leave."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np

from convoy import exits
from convoy.chaos import Chaos
from convoy.store import Store
from convoy.trainer.checkpoints import CheckpointManager, Saver, select, snapshot
from convoy.trainer.experiment import Experiment
from convoy.trainer.loggers.loggers import Loggers
from convoy.trainer.loop.progress import Progress
from convoy.trainer.outputs.display import Display
from convoy.trainer.outputs.recorder import Recorder
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import opening


class Listener(Protocol):
    """Is told after each loop how far the run is."""

    def update(self, step: int, epoch: float, images_per_second: float, wait: float | None, loss: float) -> None: ...


class Session:
    """One attempt; use as a context, which is left when the last checkpoint is written.

    Args:
      experiment: what is trained.
      store: the run directory; in all processes but the leader, one that forgets what it is given.
      attempt: its number, from 1.
      signals: requests to leave.
      display: for a person.
      listeners: are told after each loop how far the run is.
      chaos: faults on purpose.
      loggers: the services that get the records too.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        attempt: int,
        signals: Signals,
        display: Display,
        listeners: tuple[Listener, ...] = (),
        chaos: Chaos | None = None,
        loggers: Loggers | None = None,
    ):
        self.store, self.attempt, self.signals = store, attempt, signals
        self.display, self.listeners = display, (display, *listeners)
        self.chaos = chaos or Chaos("")
        self.loggers = loggers or Loggers()
        self.recorder = Recorder(store, attempt, (loggers,) if loggers else ())
        self.checkpoints = CheckpointManager(store, attempt, experiment.config.keep, self.chaos)
        self.saver = Saver(self.checkpoints, experiment.engine.shapes(), self.recorder)
        self._engine = experiment.engine

    def stop_requested(self) -> bool:
        """Whether any process was asked to leave. All processes call it."""
        return consensus.stop_requested(self._engine, self.signals)

    def save_requested(self) -> bool:
        """Whether any process was asked to save, or to leave. All processes call it, and all of them save if so."""
        return consensus.save_requested(self._engine, self.signals)

    def restore(self, experiment: Experiment) -> Progress | None:
        """Gives all processes the state of the newest undamaged checkpoint, and returns its progress. All processes call it.

        The leader alone reads it. None, and nothing has changed, if none was ever completed.

        Raises:
          exits.CannotRun: the checkpoint is of another model.
          exits.BadData: no run of this plan has left it.
        """
        engine, config = experiment.engine, experiment.config
        tensors: dict[str, np.ndarray] = {}  # JSON, which tells all processes what the leader found, holds none

        def load() -> dict[str, Any] | None:
            self.saver.join()
            loaded = self.checkpoints.load_latest(lambda views: opening.refuse_other_model(engine.check, views, config))
            if loaded is None:
                return None
            progress = Progress.from_dict(loaded[1]["progress"], experiment.plan.clock)
            opening.refuse_other_plan(self.store, progress, experiment.plan.total)
            tensors.update(loaded[0])
            return progress.to_dict()

        restored = consensus.leader_decides(engine, load)
        if restored is None:
            return None
        engine.restore(tensors if engine.cluster.is_leader else None)
        return Progress.from_dict(restored, experiment.plan.clock)

    def restore_step(self, experiment: Experiment, step: int) -> bool:
        """Gives all processes the state of the checkpoint of a step. All processes call it.

        The leader alone reads it. False, and nothing has changed, where that checkpoint is missing or damaged.
        """
        engine, config = experiment.engine, experiment.config
        tensors: dict[str, np.ndarray] = {}

        def load() -> bool:
            try:
                tensors.update(select(self.store, str(step))[1])
                opening.refuse_other_model(engine.check, tensors, config)
            except exits.ConvoyError as error:
                self.display.line(f"  Note: the checkpoint of step {step} is not measured: {error}")
                return False
            return True

        if not consensus.leader_decides(engine, load):
            return False
        engine.restore(tensors if engine.cluster.is_leader else None)
        return True

    def save(self, experiment: Experiment, progress: Progress) -> float:
        """Begins to save, and returns the seconds that the save before made it wait.

        Raises snapshot.NotFinite, in every process, for a tensor that holds NaN or an infinity.
        """
        engine = experiment.engine
        if not engine.cluster.is_leader:
            snapshot.check(engine.stream_state())
            return 0.0
        state = {"progress": progress.to_dict(), **experiment.identity.to_dict()}
        best = int(progress.best["step"]) if progress.best else None
        return self.saver.save(progress.step, engine.stream_state(), state, best)

    def __enter__(self) -> Session:
        self.saver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.saver.__exit__(kind, error, trace)
