"""Places that a run names: those that every worker of its job sees are a bucket's, or below a folder that workers are given."""

from __future__ import annotations

import posixpath
from collections.abc import Collection

from convoy import exits
from convoy.launch import shell
from convoy.launch.job import JobSpec
from convoy.options import shortened
from convoy.trainer.models.pretrained.sources import IMAGENET

# A folder of each worker's own, empty at first: for what a run prepares, or copies from a bucket.
SCRATCH = "/tmp"  # noqa: S108
_BUCKET = "gs://BUCKET/PATH"


def check_bucket(spec: JobSpec) -> None:
    """CannotRun for a run directory that the workers do not share."""
    if not spec.run.run_dir.startswith("gs://"):
        raise _refused("run_dir", spec.run.run_dir, f"give --run_dir={_BUCKET} after --")


def check_inputs(spec: JobSpec, folders: Collection[str] = (), remedy: str = "") -> None:
    """CannotRun for data and weights that lie on the submitting machine.

    Args:
      folders: what each worker has, with something in it.
      remedy: how a job gets such a folder, for the end of a sentence.
    """
    run, data = spec.run, spec.run.data
    remedy = f", or {remedy}" if remedy else ""
    source = data.dataset_spec.source
    if source.has_place and not _is_seen(str(data.dataset_spec.value), folders):
        origin = "..." if source.is_packed else data.dataset
        pack = f"{shell.line(['convoy', 'data', 'pack', f'--dataset={origin}'])} --out={_BUCKET}"
        pack = f"pack it with `{pack}` and give --dataset=records:{_BUCKET} after --"
        raise _refused("dataset", data.dataset, pack + remedy)
    if run.pretrained not in ("", IMAGENET) and not _is_seen(run.pretrained, folders):
        copy = f"copy it into a bucket and give --pretrained={_BUCKET} after --"
        raise _refused("pretrained", run.pretrained, copy + remedy)
    if data.data_dir and not _is_seen(data.data_dir, [SCRATCH, *folders]):
        own = f"give --data_dir={SCRATCH}, where each worker prepares or copies what it reads"
        raise _refused("data_dir", data.data_dir, own + remedy)


def _is_seen(place: str, folders: Collection[str]) -> bool:
    path = posixpath.normpath(place)
    return place.startswith("gs://") or any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _refused(flag: str, value: str, remedy: str) -> exits.CannotRun:
    return exits.CannotRun(f"--{flag}={shortened(value)} is no place that all workers see; {remedy}.")
