"""Whether the packages of --log_to are there, told before training starts. Imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from convoy import exits
from convoy.trainer.loggers.names import LOGGERS, LoggersSpec


def check(log_to: str) -> None:
    """CannotRun for a service whose package is not installed, with the command that installs it."""
    for name in LoggersSpec.parse(log_to).names:
        row = LOGGERS[name]
        spec = find_spec(row.package)
        if spec is None or spec.origin is None:  # a folder of that name, which Weights & Biases leaves, is no package
            raise exits.CannotRun(
                f"--log_to={name} needs {row.called}, which is not installed; pip install 'keras-convoy[{name}]', or leave"
                f" {name} out."
            )
