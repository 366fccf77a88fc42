"""The services of --log_to: a row for each. Imports nothing heavy, and none of their packages.

A row's target takes a base.RunFacts and returns a base.Logger.
"""

from __future__ import annotations

import dataclasses

from convoy.options import names_in
from convoy.table import Entry, Table


@dataclasses.dataclass(frozen=True)
class LoggerEntry(Entry):
    """A row; its name is also that of the extra which installs it.

    Args:
      called: the service as a sentence names it.
      package: what its Python package is imported as.
    """

    called: str
    package: str


LOGGERS: Table[LoggerEntry] = Table(
    "logger",
    {
        "mlflow": LoggerEntry(
            "convoy.trainer.loggers.mlflow:MlflowLogger",
            "MLflow, where MLFLOW_TRACKING_URI says; needs keras-convoy[mlflow]",
            called="MLflow",
            package="mlflow",
        ),
        "wandb": LoggerEntry(
            "convoy.trainer.loggers.wandb:WandbLogger",
            "Weights & Biases, online or as WANDB_MODE says; needs keras-convoy[wandb]",
            called="Weights & Biases",
            package="wandb",
        ),
        "trackio": LoggerEntry(
            "convoy.trainer.loggers.trackio:TrackioLogger",
            "Trackio, in TRACKIO_DIR or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says; needs keras-convoy[trackio]",
            called="Trackio",
            package="trackio",
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class LoggersSpec:
    """--log_to, parsed: the names, in the order in which they were given."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> LoggersSpec:
        """Raises exits.CannotRun as options.names_in does."""
        return cls(names_in("log_to", text, LOGGERS) if text else ())
