"""What a run shows of itself at its end: its page, and TensorBoard's pictures.

Whatever fails here is a note: it ends no run and changes no exit code.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from convoy import exits, heartbeat
from convoy.trainer.experiment import Experiment
from convoy.trainer.logits import Logits
from convoy.trainer.outputs.display import Display
from convoy.trainer.run_dir.files import PICTURES, REPORT
from convoy.trainer.session import Session

CUT_SHORT_SECONDS = 8.0  # well below supervise.ANSWER_SECONDS


def keep_pictures(experiment: Experiment, session: Session, result: Mapping[str, Any], logits: Logits) -> None:
    """Keeps the pictures of the examples that the page will show, while the data set is at hand; TensorBoard gets them too,
    with what the run mistakes and its flags.

    Args:
      result: of result.json, its step and `eval`.
      logits: of that measurement.
    """
    config, data, store = experiment.config, experiment.data, session.store
    if not config.report:
        return
    with _in_nobodys_way(session.display, PICTURES):
        from convoy.trainer.report import board, pictures

        kept = pictures.keep(data, logits, config.seed, config.batch_size)
        store.put(PICTURES, kept.to_bytes())
        board.write(store, result["step"], config.to_dict(), result["eval"], logits, data.dataset.class_names, kept)


def write(experiment: Experiment, session: Session) -> None:
    """Writes the page of a run that is finished; the leader does."""
    if not experiment.config.report or not experiment.engine.cluster.is_leader:
        return
    with _in_nobodys_way(session.display, REPORT):
        from convoy.trainer.report import page

        page.write(session.store, experiment.config)


def write_in_time(experiment: Experiment, session: Session) -> None:
    """Writes the page of a run that is cut short, unless that takes long: its machine may be about to go away."""
    writing = threading.Thread(target=write, args=(experiment, session), name="report", daemon=True)
    writing.start()
    writing.join(CUT_SHORT_SECONDS)
    if writing.is_alive():
        session.display.line(f"  Note: {REPORT} is not written: that takes more than {CUT_SHORT_SECONDS:g} s here.")


@contextlib.contextmanager
def _in_nobodys_way(display: Display, name: str) -> Iterator[None]:
    with heartbeat.beating():
        try:
            yield
        except Exception as error:
            why = str(error) if isinstance(error, exits.ConvoyError) else f"{type(error).__name__}: {error}"
            display.line(f"  Note: {name} is not written: {why}")
