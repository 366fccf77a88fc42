"""MLflow: a run of an experiment, found again by a tag."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from convoy import exits
from convoy.trainer.loggers.base import PROJECT, RunFacts

_TAG = "convoy.run_id"
_BATCH = 100  # parameters of a request
_STATUS = {exits.OK: "FINISHED", exits.TRY_AGAIN: "KILLED", exits.STOPPED: "KILLED"}


class MlflowLogger:
    """See base.Logger. MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID say where it writes."""

    def __init__(self, facts: RunFacts):
        import mlflow
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # what they say while they make tables is not for this screen
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient()
        experiment = self._experiment()
        known = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{facts.run_id}'", max_results=1)
        run = known[0] if known else self._client.create_run(experiment, tags={_TAG: facts.run_id}, run_name=facts.name)
        self._run_id = run.info.run_id
        self.place = f"{mlflow.get_tracking_uri()}, run {self._run_id}"
        self._client.update_run(self._run_id, status="RUNNING")
        self._describe(facts, dict(run.data.params))
        self._steps = {
            name: {point.step for point in self._client.get_metric_history(self._run_id, name)}
            for name in run.data.metrics
        }

    def has(self, name: str, step: int) -> bool:
        return step in self._steps.get(name, ())

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        points = [Metric(name, value, round(1000 * seconds), step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=points, synchronous=True)

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        if fresh := {name: value for name, value in figures.items() if not self.has(name, step)}:
            self.log(step, time.time(), fresh)

    def close(self, code: int) -> None:
        self._client.set_terminated(self._run_id, _STATUS.get(code, "FAILED"))

    def _experiment(self) -> str:
        """The identity of the experiment, which is made if it is not there."""
        if known := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = self._client.get_experiment_by_name(name)
        return experiment.experiment_id if experiment else self._client.create_experiment(name)

    def _describe(self, facts: RunFacts, known: Mapping[str, str]) -> None:
        """Writes flags and links. A parameter keeps its first value at MLflow, so a flag that was changed since is a tag."""
        from mlflow.entities import Param, RunTag

        values = {name: str(value) for name, value in facts.flags.items()}
        tags = {f"convoy.{name}": link for name, link in facts.links.items()}
        tags |= {f"now.{name}": value for name, value in values.items() if known.get(name, value) != value}
        self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        fresh = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(fresh), _BATCH):
            self._client.log_batch(self._run_id, params=fresh[start : start + _BATCH], synchronous=True)
