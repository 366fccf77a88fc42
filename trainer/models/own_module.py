"""A user's own --model=package.module:function, looked for before anything heavy is imported. Imports none of it."""

from __future__ import annotations

from pathlib import Path

from convoy import exits
from convoy.trainer.models.names import is_users_own
from convoy.trainer.run_dir import trust

_MAKE_NAMES = ("import *", "globals(", "__getattr__", "setattr(", "exec(")  # without writing them


def check(model: str) -> None:
    """CannotRun where there is no such module, or where its file can define no such function."""
    if not is_users_own(model):
        return
    module, function = model.split(":")
    specs = trust.find(module)
    if not specs:
        raise no_module(model)
    file = Path(specs[-1].origin or "") if specs[-1].has_location else Path()
    if file.suffix == ".py" and file.is_file():
        source = file.read_text(errors="replace")
        if not any(text in source for text in (function, *_MAKE_NAMES)):
            raise no_function(model, str(file))


def no_module(model: str) -> exits.CannotRun:
    module = model.partition(":")[0]
    return exits.CannotRun(
        f"--model={model}: there is no module {module} in {Path.cwd()} or among the installed packages."
    )


def no_function(model: str, file: str) -> exits.CannotRun:
    return exits.CannotRun(f"--model={model}: {file} defines no function {model.partition(':')[2]}.")
