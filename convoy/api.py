"""Convoy from Python: train, evaluate and predict in three lines. docs/notebook.md shows them.

Each call is the command of the same name, in a child process (convoy.calling says why); its flags are keyword arguments. An
end that a person can act on is one of the exceptions in convoy.exits, whose text is the sentence that the command prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from convoy import exits, options
from convoy.calling import call
from convoy.data.config import DataConfig
from convoy.outside import parse_json
from convoy.store import open_store
from convoy.trainer.config import RunConfig, from_argv, from_dict
from convoy.trainer.flags.recipes import RecipeFlag
from convoy.trainer.measurement import ClassMeasurement, Measurement
from convoy.trainer.outputs.notebook import NotebookDisplay, in_notebook
from convoy.trainer.outputs.status import WATCHED
from convoy.trainer.predictions import Guess, Prediction, Predictions
from convoy.trainer.run_dir import commands, opening
from convoy.trainer.run_dir.finished import read_result

if TYPE_CHECKING:
    from convoy.trainer.flags.keywords import TrainFlags
    from convoy.trainer.outputs.display import Display

__all__ = ["ClassMeasurement", "Guess", "Measurement", "Prediction", "Predictions", "Run", "open", "train"]


def train(dataset: str = "digits", **flags: Unpack[TrainFlags]) -> Run:
    """Trains an image classifier, or continues a run: `convoy train`.

    The output of the command is printed as it comes, with a bar in a terminal or a notebook. Ctrl-C, or the notebook's
    interrupt, saves the run and raises exits.Stopped; the same call continues it.

    Args:
      dataset: digits, cifar10, folder:PATH, csv:FILE, ...: --dataset.
      flags: those of `convoy train --help`, without the dashes: model="resnet18", duration="5ep", run_dir="runs/one".

    Returns:
      The run, finished.

    Raises:
      exits.UsageError: there is no such flag, or a value is of another type.
      exits.CannotRun: a value is impossible, or another run lives in run_dir.
      exits.BadData, exits.Diverged, exits.TryAgain, exits.Stopped: how the run ended.
    """
    given = {"dataset": dataset, **flags}
    values = options.from_keywords("convoy.train", given, RecipeFlag, RunConfig, DataConfig)
    flags_given = {name: values[name] for name in given}
    config = from_argv(options.to_flags(flags_given.items())) if values["recipe"] else from_dict(values)
    # The name of a new run directory carries the time: the one that the run is told is the one that is returned.
    run_dir = config.with_defaults().run_dir
    argv = options.to_flags({**flags_given, "run_dir": run_dir}.items())
    _call(["train", *argv])
    return Run(run_dir)


def open(run_dir: str | os.PathLike[str]) -> Run:
    """A run that was begun before, by whatever means; exits.CannotRun where there is none."""
    place = os.fspath(run_dir)
    opening.trained_config(open_store(place), place)
    return Run(place)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is there.

    Attributes:
      run_dir: its directory, or gs://BUCKET/PATH.
    """

    run_dir: str

    @property
    def result(self) -> dict[str, Any]:
        """What result.json says; exits.CannotRun where the run is not finished."""
        try:
            return read_result(open_store(self.run_dir))
        except FileNotFoundError:
            stored = opening.begun_config(open_store(self.run_dir))
            command = f"; this continues it: {commands.of_directory(stored.unchecked, self.run_dir)}" if stored else "."
            raise exits.CannotRun(f"the run in {self.run_dir} is not finished{command}") from None

    def evaluate(
        self,
        split: str = "auto",
        *,
        checkpoint: str | int = "last",
        dataset: str = "",
        data_dir: str | os.PathLike[str] = "",
        model: str = "",
        trust_model_code: bool = False,
    ) -> Measurement:
        """Measures a checkpoint on a split of the data set: `convoy evaluate`.

        Args:
          split: of the data set; eval: the examples that chose the best checkpoint; auto: test, or eval where there is no test
            split.
          checkpoint: last, best, or a step.
          dataset, data_dir: where the data set is now, if it has moved.
          model, trust_model_code: consent to code that the run names (docs/checkpoints.md).

        Raises:
          exits.CannotRun, exits.BadData: there is no such run, split, checkpoint or data set; or they are damaged.
        """
        with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
            output = Path(folder) / "measurement.json"
            self._call("evaluate", split=split, checkpoint=checkpoint, dataset=dataset, data_dir=data_dir, model=model,
                       trust_model_code=trust_model_code, output=output)  # fmt: skip
            return Measurement.from_dict(parse_json(output.read_bytes(), str(output), finite=False), str(output))

    def predict(
        self,
        images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        top: int = 5,
        tta: bool = False,
        checkpoint: str | int = "last",
        batch_size: int = 32,
        backend: str = "",
        model: str = "",
        trust_model_code: bool = False,
    ) -> Predictions:
        """What the model sees in image files: `convoy predict`. Needs the run directory, not the data set.

        Args:
          images: a file, a folder or a pattern; or several of these.
          top: how many classes to name, the most probable first.
          tta: average the probabilities of each image and of its mirror image.
          checkpoint: last, best, or a step.
          batch_size: images of one call of the model.
          backend: tensorflow or jax; default: the run's.
          model, trust_model_code: consent to code that the run names (docs/checkpoints.md).

        Returns:
          One for each file, in order. Of files that could not be read `error` says why.

        Raises:
          exits.BadData: none of them could be read.
          exits.CannotRun: there is no such run or checkpoint, or a folder cannot be listed.
        """
        places = [os.fsencode(place) for place in ([images] if isinstance(images, str | os.PathLike) else images)]
        if not places:
            return Predictions(())
        for place in places:
            if not place or b"\0" in place:
                raise exits.UsageError(f"{place!r} names no file; give a name.")
        with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
            listed, output = Path(folder) / "images", Path(folder) / "predictions.jsonl"
            listed.write_bytes(b"".join(place + b"\0" for place in places))
            self._call("predict", top=top, tta=tta, checkpoint=checkpoint, batch_size=batch_size, backend=backend,
                       model=model, trust_model_code=trust_model_code, json=True, out=output, list=listed)  # fmt: skip
            with output.open("rb") as lines:
                return Predictions([Prediction.from_json(line, str(output)) for line in lines])

    def _call(self, verb: str, **flags: object) -> None:
        """Runs a verb of the run. What it prints is left out, but for stderr: whoever called gets a value that shows it."""
        _call([verb, *options.to_flags({"run_dir": self.run_dir, **flags}.items())], shows_lines=False)


def _call(argv: list[str], shows_lines: bool = True) -> None:
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        status = Path(folder) / "status.json"
        with _Screen(status) as screen:
            call(argv, screen.line if shows_lines else lambda line: None, screen.look, {WATCHED: str(status)})


class _Screen:
    """Shows what a command prints, and how far it is: a bar in a notebook or, of a run, in a terminal. Use as a context."""

    def __init__(self, status: Path) -> None:
        self._status = status  # a file in which the command says how far it is
        self._notebook = NotebookDisplay() if in_notebook() else None
        self._display: Display | None = None
        self._bar = contextlib.ExitStack()  # holds the display's, once there is something to show
        self._begun = False
        if not self._notebook and sys.stdout.isatty():
            from convoy.trainer.outputs.display import Display

            self._display = Display()

    def line(self, text: str) -> None:
        if self._display:
            self._display.line(text)
        else:
            print(text, flush=True)

    def look(self) -> None:
        """Moves the bar to where the command is."""
        if not self._notebook and not self._display:
            return
        try:
            status = json.loads(self._status.read_bytes())
        except (OSError, ValueError):  # it has not begun, or is writing
            return
        if self._notebook:
            self._notebook.move(status["step"], status["total"], _described(status))
        elif self._display and status.get("loss") is not None:
            if not self._begun:
                self._begun = True
                self._bar.enter_context(self._display.start(status["total"], status["step"]))
            self._display.update(
                *(status[name] for name in ("step", "epoch", "images_per_second", "input_wait", "loss"))
            )

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def _described(status: dict[str, Any]) -> str:
    """What stands behind `12 of 60`."""
    if "epoch" not in status:
        return "files"
    if status["loss"] is None:
        return "steps"
    return f"steps: epoch {status['epoch']:.1f}, loss {status['loss']:.3f}, {status['images_per_second']:,.0f} images/s"
