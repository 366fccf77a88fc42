"""What is submitted: one job, pure data. Rendering it for a target is a pure function of it.

convoy launch submit --target=k8s --accelerator=l4x4 --workers=4 --name=rn50 ... -- --dataset=cifar10 --run_dir=gs://b/r
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Set
from typing import Any

from convoy import accelerators, exits, options
from convoy.accelerators import Accelerator
from convoy.bounds import real, whole
from convoy.launch import images
from convoy.launch.where import LONGEST, MOST_WORKERS, Name, Where, check_visible
from convoy.options import option
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig

GANGS = ("jobset", "indexed")
POLICIES = ("on", "off")
_SIZE = re.compile(r"[1-9]\d*(Gi|Mi)")
_YEAR = 24 * 365
# TPUs that TensorFlow crashed on, or that came after its last version for TPUs.
_JAX_ONLY = ("v6e", "v7x")
_JOB, _BUDGET, _KUBERNETES, _TPU = "Job", "Budget", "Kubernetes", "Cloud TPU"


@dataclasses.dataclass(frozen=True)
class JobOptions(Where, Name):
    """The flags of a job. Valid by construction: an impossible value raises exits.CannotRun, a sentence."""

    accelerator: str = option(
        "cpu",
        "of each worker: cpu, or GPUs as l4x4 or h100x8; or a TPU slice as v5e-16, which all workers share"
        " (`convoy launch accelerators` lists them).",
        group=_JOB,
    )
    topology: str = option("", "of a TPU slice, 2x4 for example, where its name leaves a choice.", group=_JOB)
    workers: int = option(
        0,
        "processes of the job, one a pod or machine (0: 1, or as many as the TPU slice has machines).",
        group=_JOB,
        within=whole(0, MOST_WORKERS),
    )
    image: str = option("", "the container's image, best by digest: REF@sha256:...", group=_JOB)
    spot: bool = option(False, "take machines that may be taken back at any time, at their price.", group=_BUDGET)
    reservation: str = option("", "use this reservation of machines.", group=_BUDGET)
    max_restarts: int = option(
        10, "how often the job may begin again before it has failed.", group=_BUDGET, within=whole(0, 1_000_000)
    )
    hours: float = option(
        72.0,
        "the longest that an attempt may run (with --queue all of them together, on tpu-vm with the wait for machines).",
        group=_BUDGET,
        within=real(0, _YEAR, above=True),
    )
    price_per_hour: float = option(
        0.0,
        "of one worker's machine, in dollars, where the table has none or another one.",
        group=_BUDGET,
        within=real(0, 1e9),
    )
    gang: str = option(
        "jobset",
        "jobset restarts all workers together; indexed, an Indexed Job with a headless Service for clusters without JobSet,"
        " does not restart.",
        group=_KUBERNETES,
        choices=GANGS,
    )
    queue: str = option("", "the Kueue queue that admits it; without one it starts at once.", group=_KUBERNETES)
    priority: str = option("", "the priority class; with --queue Kueue's.", group=_KUBERNETES)
    service_account: str = option("", "that the pods, or machines, act as.", group=_KUBERNETES)
    cpus: float = option(
        0.0, "CPU cores that a worker asks for (0: what suits the machine).", group=_KUBERNETES, within=real(0, 10_000)
    )
    memory: str = option(
        "", "memory that a worker gets, 64Gi for example (default: what suits the machine).", group=_KUBERNETES
    )
    scratch: str = option(
        "",
        "disk that a worker gets for /tmp: caches, and copies of records (default: 10Gi, which with --queue counts against no"
        " quota).",
        group=_KUBERNETES,
    )
    network_policy: str = option(
        "on",
        "on: only the job's own pods may connect to its workers, where the cluster's network enforces that; off for those"
        " who may not create network policies.",
        group=_KUBERNETES,
        choices=POLICIES,
    )
    runtime_version: str = option("", "the machines' image (default: by accelerator and --backend).", group=_TPU)
    bucket: str = option("", "gs://BUCKET/PATH for code and status (default: beside the run directory).", group=_TPU)

    def __post_init__(self) -> None:
        Where.__post_init__(self)
        Name.__post_init__(self)
        options.check(self)
        for flag in ("memory", "scratch"):
            if (size := getattr(self, flag)) and not _SIZE.fullmatch(size):
                raise exits.CannotRun(f"--{flag}={size} is not possible: give a number of Gi or Mi, for example 64Gi.")
        if self.image and (wrong := images.why_not(self.image)):
            raise exits.CannotRun(f"--image={self.image} {wrong}.")


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """A job: its options, the accelerator they name, and the run's configuration. Two equal specs are one job.

    Attributes:
      options: as given; `workers` is resolved.
      accelerator: of each worker, or the slice that all of them share.
      run: the run; validated here, so that a typo fails now and not in a pod.
    """

    options: JobOptions
    accelerator: Accelerator
    run: RunConfig

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def workers(self) -> int:
        return self.options.workers

    @property
    def train_flags(self) -> list[str]:
        """The flags of `convoy train`, flagfiles inlined; what has its default is left out."""
        default = RunConfig().to_dict()
        return options.to_flags((name, value) for name, value in self.run.to_dict().items() if value != default[name])

    @property
    def digest(self) -> str:
        """By which the same job is known again: 16 hexadecimal digits of the SHA-256 of all of it but its price."""
        job = dataclasses.replace(self, options=dataclasses.replace(self.options, price_per_hour=0.0))
        return hashlib.sha256(json.dumps(job.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; from_dict is the inverse."""
        return {"options": dataclasses.asdict(self.options), "run": self.run.to_dict()}


def from_dict(values: dict[str, Any]) -> JobSpec:
    """The inverse of JobSpec.to_dict."""
    return build(JobOptions(**values["options"]), configuration.from_dict(values["run"]))


def from_argv(argv: list[str]) -> JobSpec:
    """Flags of a job, `--`, flags of `convoy train` -> the job.

    Raises:
      exits.UsageError: a flag that does not parse.
      exits.CannotRun: a value that cannot be.
    """
    own, train = split(argv)
    return build(*job_and_run(parse(own, JobOptions), train))


def build(given: JobOptions, run: RunConfig) -> JobSpec:
    """Options and run -> a job whose parts agree; CannotRun where they do not."""
    check_visible(run.to_dict())
    accelerator, workers = machines(given)
    if not run.run_dir:
        raise exits.CannotRun("--run_dir is missing after --: a job that is started again has to find its run.")
    if given.target != "local" and not run.run_dir.startswith("gs://"):
        raise exits.CannotRun(
            f"--run_dir={run.run_dir} is no place that all workers see; give --run_dir=gs://BUCKET/PATH after --."
        )
    if given.target == "k8s" and not given.image:
        raise exits.CannotRun("--image is missing; give the image that k8s/Dockerfile builds, best by digest.")
    if given.target == "tpu-vm" and accelerator.kind != "tpu":
        raise exits.CannotRun(
            f"--target=tpu-vm, but --accelerator={given.accelerator} is no TPU; give v5e-8 for example."
        )
    if accelerator.kind == "tpu" and run.backend == "tensorflow":
        _refuse_tensorflow(given, accelerator)
    if given.gang == "indexed" and given.max_restarts not in (0, JobOptions.max_restarts):
        raise exits.CannotRun(
            f"--max_restarts={given.max_restarts}: an Indexed Job does not restart; leave it out, or give --gang=jobset."
        )
    if run.batch_size % workers:
        raise exits.CannotRun(
            f"--batch_size={run.batch_size} is the batch of all {workers} workers together and cannot be dealt to them evenly."
        )
    return JobSpec(dataclasses.replace(given, workers=workers), accelerator, run)


def _refuse_tensorflow(given: JobOptions, accelerator: Accelerator) -> None:
    """CannotRun for the slices of TPUs that TensorFlow cannot drive, which gets no new versions there."""
    chip = accelerator.chip
    assert chip is not None
    if accelerator.hosts > 1:
        raise exits.CannotRun(
            f"TensorFlow drives the TPUs of one machine, and {given.accelerator} has {accelerator.hosts}; give --backend=jax"
            " after --, which trains the same models, or a smaller slice."
        )
    if chip.name in _JAX_ONLY:
        raise exits.CannotRun(
            f"TensorFlow does not run on TPUs as new as {chip.name}; give --backend=jax after --, which trains the same models."
        )


def machines(given: JobOptions) -> tuple[Accelerator, int]:
    """(the accelerator of each worker, or the slice that all of them share, how many workers)."""
    accelerator = accelerators.resolve(given.accelerator, given.topology)
    if accelerator.kind != "tpu":
        return accelerator, given.workers or 1
    if given.workers not in (0, accelerator.hosts):
        raise exits.CannotRun(
            f"--workers={given.workers}, but {given.accelerator} has {accelerator.hosts} machines; leave --workers out."
        )
    return accelerator, accelerator.hosts


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """(flags of the job, flags of `convoy train`), which stand after --."""
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def parse(own: list[str], *classes: type) -> dict[str, Any]:
    """As options.parse, of what stands before --; UsageError says of a flag of `convoy train` where it belongs."""
    names = {field.name for field in options.fields(*classes)}
    if flag := _first(own, RunConfig().to_dict().keys() - names):
        raise exits.UsageError(f"--{flag} is a flag of `convoy train`; give it after --, as in: -- --{flag}=...")
    return options.parse(own, *classes)


def job_and_run(parsed: Mapping[str, Any], train: list[str]) -> tuple[JobOptions, RunConfig]:
    """Parsed flags of a job, flags of `convoy train` -> its options and its run.

    In a rehearsal neither needs a name: a run gets a directory as from `convoy train`, and a job is called as that.
    """
    run, values = read_run(train), options.take(JobOptions, parsed)
    if values["target"] == "local":
        run = dataclasses.replace(run, run_dir=run.with_defaults().run_dir)
        values["name"] = values["name"] or _called(run.run_dir)
    return JobOptions(**values), run


def _called(run_dir: str) -> str:
    """A name of a job, made of the last part of its run directory."""
    words = re.findall(r"[a-z0-9]+", run_dir.rstrip("/").rpartition("/")[2].lower())
    if not words or words[0][0].isdigit():
        words.insert(0, "run")
    return "-".join(words)[:LONGEST].rstrip("-")


def read_run(train: list[str]) -> RunConfig:
    """The run, of what stands after --; UsageError says of a flag of the job where it belongs."""
    names = {field.name for field in options.fields(JobOptions)}
    if flag := _first(train, names - RunConfig().to_dict().keys()):
        raise exits.UsageError(f"--{flag} is a flag of the job, none of `convoy train`; give it before --.")
    return configuration.from_argv(train)


def _first(argv: list[str], names: Set[str]) -> str:
    """The first of some flags that stands there; empty for none."""
    found = (word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-"))
    return next((flag for flag in found if flag in names), "")
