"""What a run does about a loss, gradient or weight that is NaN or infinite: --on_nan."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, NoReturn

from convoy import exits
from convoy.trainer.loop.progress import Progress

if TYPE_CHECKING:
    from convoy.trainer.experiment import Experiment
    from convoy.trainer.session import Session

MAX_CONSECUTIVE_SKIPS, MAX_ROLLBACKS = 10, 3


class NanFound(Exception):
    """A loss, gradient or weight is NaN or infinite; the text says which.

    Args:
      what: the start of a sentence.
      step: how many steps were made when it showed.
      position: the first position after the examples that led to it.
      in_first_step: whether no weight had changed before it.
    """

    def __init__(self, what: str, step: int, position: int, in_first_step: bool = False):
        super().__init__(what)
        self.step, self.position, self.in_first_step = step, position, in_first_step


def count_skipped(experiment: Experiment, session: Session, progress: Progress, loss: float, norm: float) -> None:
    """With --on_nan=skip, counts a step that changed nothing; raises Diverged after too many in a row."""
    # A norm that loss scaling skips, to find its scale, has a finite loss: it does not count.
    scaled = experiment.config.precision == "mixed_float16"
    if math.isfinite(loss) and (scaled or math.isfinite(norm)):
        progress.skipped_in_a_row = 0
        return
    progress.skipped += 1
    progress.skipped_in_a_row += 1
    # As text: JSON has no such numbers.
    session.recorder.event("skipped", step=progress.step, loss=str(loss), gradient_norm=str(norm))
    if progress.skipped_in_a_row > MAX_CONSECUTIVE_SKIPS:
        diverge(
            experiment,
            session,
            progress.step,
            f"{progress.skipped_in_a_row} steps in a row, up to step {progress.step}, had a loss or gradient that is not"
            " finite",
            in_first_step=progress.skipped_in_a_row > progress.step,
        )


def roll_back(experiment: Experiment, session: Session, progress: Progress, nan: NanFound) -> Progress:
    """Goes back to the last checkpoint, and on with the examples after those that led to the NaN.

    Returns the progress from there; the engine is still to be fed. Raises Diverged where there is no checkpoint, or after too
    many rollbacks.
    """
    rollbacks = progress.rollbacks + 1
    if rollbacks > MAX_ROLLBACKS:
        diverge(experiment, session, progress.step, f"{nan}, after {MAX_ROLLBACKS} rollbacks")
    restored = session.restore(experiment)
    if restored is None:
        what = f"{nan}, and there is no checkpoint to go back to"
        diverge(experiment, session, progress.step, what, nan.in_first_step)
    restored.rollbacks, restored.position = rollbacks, nan.position
    session.recorder.event("rollback", step=restored.step, failed=nan.step, what=str(nan), position=restored.position)
    session.recorder.resume(restored.lines, restored.step)
    session.display.line(
        f"  Note: {nan}: back to step {restored.step}, on with other examples ({rollbacks} of {MAX_ROLLBACKS} times)."
    )
    return restored


def diverge(experiment: Experiment, session: Session, step: int, what: str, in_first_step: bool = False) -> NoReturn:
    """Ends the run, which has made `step` steps; the sentence names the last good checkpoint, and what may help."""
    with contextlib.suppress(exits.ConvoyError):
        session.saver.join()
    session.recorder.event("diverged", step=step, what=what)
    last = session.checkpoints.last
    saved = f"the last good checkpoint is {last.folder}" if last else "no checkpoint had been saved before"
    raise exits.Diverged(f"{what}; {saved}. {_remedy(experiment.config.precision, in_first_step)}.")


def _remedy(precision: str, in_first_step: bool) -> str:
    if not in_first_step:
        return "Lower --learning_rate, add --warmup, or bound the gradient with --clip_norm=1"
    if precision == "mixed_float16":
        return (
            "No weight had changed yet: --precision=mixed_float16, whose largest number is 65,504, may be too small for this"
            " network; give mixed_bfloat16 or float32"
        )
    return "No weight had changed yet: look at the images, at the network, and at the weights that it began with"
