"""The flags of what asks a run's model about pictures: `convoy predict` and `convoy try`."""

from __future__ import annotations

import dataclasses

from convoy import exits, options
from convoy.bounds import PORTS, whole
from convoy.options import option
from convoy.table import near
from convoy.trainer.flags.choices import BACKENDS
from convoy.trainer.flags.validation import check_checkpoint

_GROUP = "Prediction"


def _check_backend(name: str) -> None:
    if name and name not in BACKENDS:
        raise options.impossible("backend", name, near(name, BACKENDS))


@dataclasses.dataclass(frozen=True)
class AskConfig:
    """Which model to ask, and how."""

    run_dir: str = option("", "the run.", group=_GROUP)
    checkpoint: str = option("last", "last, best, or a step.", group=_GROUP, check=check_checkpoint)
    top: int = option(5, "how many classes to name, the most probable first.", group=_GROUP, within=whole(1, 1 << 20))
    tta: bool = option(
        False,
        "average the probabilities of each image and of its mirror image (not for digits, letters and signs).",
        group=_GROUP,
    )
    backend: str = option("", lambda: f"{BACKENDS.help()} (default: the run's).", group=_GROUP, check=_check_backend)
    model: str = option(
        "",
        "the run's own package.module:function, given again: this imports your module of that name, which without it is"
        " imported only for runs that you began on this machine, while the module's file is as it was.",
        group=_GROUP,
    )
    trust_model_code: bool = option(
        False,
        "import whatever Python code the run directory names, wherever that comes from; it runs with your rights.",
        group=_GROUP,
    )

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
        options.check(self)


@dataclasses.dataclass(frozen=True)
class PredictConfig(AskConfig):
    """How to predict, and where to write it."""

    json: bool = option(
        False, "print a line of JSON for each file, and nothing else on stdout (docs/predict.md).", group=_GROUP
    )
    csv: bool = option(False, "print CSV, and nothing else on stdout.", group=_GROUP)
    out: str = option("", "with --json or --csv, write to this file.", group=_GROUP)
    list: str = option(
        "",
        "a file that names more images, folders and patterns, one a line or each ended by a NUL, as find -print0 does.",
        group=_GROUP,
    )
    batch_size: int = option(32, "images of one call of the model.", group=_GROUP, within=whole(1, 1 << 20))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.json and self.csv:
            raise exits.CannotRun("--json and --csv are two forms of the same; leave one of them out.")
        if self.out and not (self.json or self.csv):
            raise exits.CannotRun(f"--out={self.out} needs --json or --csv, the form of the file.")


@dataclasses.dataclass(frozen=True)
class TryConfig(AskConfig):
    """Where to show the page."""

    port: int = option(0, "of 127.0.0.1 to listen on; 0: a free one.", group=_GROUP, within=PORTS)
