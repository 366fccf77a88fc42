"""What a person reads below the end of `convoy train`: the command that continues the run. Imports no more than NumPy."""

from __future__ import annotations

from convoy import exits
from convoy.store import open_store
from convoy.trainer.checkpoints import format
from convoy.trainer.config import RunConfig
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.run_dir import commands, opening


def after(code: int, asked: RunConfig) -> str:
    """The command, and how it continues the run, as lines; empty where none does.

    Args:
      code: the exit code of the run.
      asked: the run, as the command line has it, with its directory.
    """
    remote = "://" in asked.run_dir  # and may be away now
    if code in (exits.TRY_AGAIN, exits.STOPPED):
        what = "This continues it" if remote or _is_begun(asked) else "This begins it again"
    elif code in (exits.BUG, exits.BAD_DATA, exits.CANNOT_RUN) and not remote and _is_begun(asked):
        what = "Once that is mended, this continues it"
    elif (
        code == exits.DIVERGED and asked.on_nan == "stop" and not remote and format.complete(open_store(asked.run_dir))
    ):
        command = commands.train(asked, on_nan="rollback")
        return f"This continues it after its last checkpoint, with other examples:\n  {command}\n"
    else:
        return ""
    return f"{what}:\n  {commands.train(asked)}\n"


def _is_begun(asked: RunConfig) -> bool:
    """Whether this very run was begun in its folder."""
    store = open_store(asked.run_dir)
    try:
        if (stored := opening.begun_config(store)) is None:
            return False
        opening.finished_without_data(settle(asked.with_defaults(), stored), store, stored)
        return True
    except exits.ConvoyError:  # it is another run, or damaged
        return False
