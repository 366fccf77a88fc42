"""The flags of jobs under Slurm. Each becomes a word of a shell script, so each has a grammar."""

from __future__ import annotations

import dataclasses
import re

from convoy import exits, options
from convoy.bounds import whole
from convoy.options import option

_SLURM, _DOCTOR = "Slurm", "What the job would use"
# No blank, quote or sign that sbatch or a shell reads in its own way; no dash first, which would be an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_GRES = re.compile(r"gpu(:(?P<type>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}))?:(?P<count>[1-9]\d{0,3})", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,127}")
_VARIABLE = re.compile(r"(?!(ALL|NONE|NIL)\b)[A-Za-z_][A-Za-z0-9_]{0,127}")  # those are words of --export
_PATH = re.compile(r"/[^\0\n]{0,4000}")
MAX_SAVE_SECONDS = 65_535  # Slurm's own bound


@dataclasses.dataclass(frozen=True)
class SlurmOptions:
    """What a job asks of Slurm beyond what every job has."""

    partition: str = option("", "slurm: the partition, or several as A,B (default: the cluster's).", group=_SLURM)
    account: str = option("", "slurm: the account that the job is charged to (default: yours).", group=_SLURM)
    qos: str = option("", "slurm: the quality of service (default: yours).", group=_SLURM)
    gres: str = option(
        "",
        "slurm: the GPUs of a worker as the cluster calls them, gpu:h100:8 for example (default: gpu:N by --accelerator).",
        group=_SLURM,
    )
    modules: str = option(
        "", "slurm: environment modules that the job loads, in this order: cuda/12.4,python/3.12.", group=_SLURM
    )
    apptainer: str = option(
        "", "slurm: an Apptainer image on the nodes, /PATH.sif, that the workers run in.", group=_SLURM
    )
    python: str = option(
        "",
        "slurm: the Python of the nodes that has Convoy (default: this one; with --apptainer the image's).",
        group=_SLURM,
    )
    env: str = option(
        "",
        "slurm: names of variables of this shell that the job gets, such as WANDB_API_KEY; it gets no other.",
        group=_SLURM,
    )
    save_before: int = option(
        120,
        "slurm: seconds before the time limit at which the run saves, leaves and is queued again (Slurm: up to 60 s sooner).",
        group=_SLURM,
        within=whole(1, MAX_SAVE_SECONDS),
    )

    def __post_init__(self) -> None:
        options.check(self)
        check_names(partition=self.partition, account=self.account, qos=self.qos)
        if self.gres and not _GRES.fullmatch(self.gres):
            raise exits.CannotRun(
                f"--gres={self.gres} is not possible: give gpu:COUNT or gpu:TYPE:COUNT, as `sinfo -o %G` shows the type."
            )
        for flag, text, form, example in (
            ("modules", self.modules, _MODULE, "cuda/12.4,python/3.12"),
            ("env", self.env, _VARIABLE, "WANDB_API_KEY,HF_HOME"),
        ):
            if text and not all(form.fullmatch(word) for word in text.split(",")):
                raise exits.CannotRun(
                    f"--{flag}={text} is not possible: give names, with commas and no blanks: {example}."
                )
        for flag, path in (("apptainer", self.apptainer), ("python", self.python)):
            if path and not _PATH.fullmatch(path):
                raise exits.CannotRun(f"--{flag}={path} is not possible: give an absolute path, as all nodes see it.")

    @property
    def gpus(self) -> int:
        """How many GPUs a worker gets by --gres; 0 without it."""
        match = _GRES.fullmatch(self.gres)
        return int(match["count"]) if match else 0


@dataclasses.dataclass(frozen=True)
class SlurmDoctorOptions:
    """What `convoy launch doctor` checks beside Slurm itself."""

    partition: str = option("", "slurm: as for submit.", group=_DOCTOR)
    account: str = option("", "slurm: as for submit.", group=_DOCTOR)
    qos: str = option("", "slurm: as for submit.", group=_DOCTOR)
    python: str = option("", "slurm: as for submit.", group=_DOCTOR)

    def __post_init__(self) -> None:
        check_names(partition=self.partition, account=self.account, qos=self.qos)
        if self.python and not _PATH.fullmatch(self.python):
            raise exits.CannotRun(
                f"--python={self.python} is not possible: give an absolute path, as all nodes see it."
            )


def check_names(**names: str) -> None:
    """CannotRun for a name, by its flag, that Slurm cannot have, or that a script would read as something else."""
    for flag, text in names.items():
        words = text.split(",") if flag == "partition" else [text]
        if text and not all(_NAME.fullmatch(word) for word in words):
            raise exits.CannotRun(
                f"--{flag}={text} is not possible: give up to 64 letters, digits, dots, dashes and underscores, no dash first."
            )
