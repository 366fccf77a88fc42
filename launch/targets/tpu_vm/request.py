"""JobSpec -> QueuedResource: the request to Cloud TPU, with the metadata that its machines read."""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from convoy import accelerators, exits, shapes
from convoy.bounds import whole
from convoy.launch import shell
from convoy.launch.flags import MAX_WORKERS
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import RESTARTS, TIME
from convoy.launch.targets.tpu_vm import chips
from convoy.launch.targets.tpu_vm.api import QueuedResource
from convoy.launch.targets.tpu_vm.bundle import Bundle
from convoy.launch.targets.tpu_vm.options import TpuVmOptions, TpuVmPlace
from convoy.outside import Name, name_in, parse_json, printable

JOB = "convoy-job"  # the metadata that boot.py reads
BOOT = Path(__file__).with_name("boot.py")
_JOB = {
    **dict.fromkeys(("bucket", "folder", "digest", "run_dir"), str),
    "workers": whole(1, MAX_WORKERS),
    "attempt": RESTARTS,
    "begun": TIME,
}
_MAX_BYTES = 256 * 1024  # the limit of one value of a machine's metadata
# The scope of the machines' token, which writes to the bucket and deletes the machines: all that the account may do.
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# The images' own Python is older than Convoy needs, so uv installs the submitter's version. A machine can be switched off in
# between, so every line may run twice. --target leaves the system's packages alone, as newer systems demand. Only packages
# whose hash is in the bundle are installed, and the machine checks the hash of the bundle.
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_INSTALL = [
    ["python3", "-m", "pip", "install", "--quiet", "--target", "{folder}/uv", "--require-hashes", "--no-deps", "--requirement",
     "{folder}/uv.txt"],
    ["{folder}/uv/bin/uv", "venv", "--quiet", "--allow-existing", "--python", _PYTHON, "{folder}/venv"],
    ["{folder}/uv/bin/uv", "pip", "install", "--quiet", "--python", "{folder}/venv/bin/python", "--require-hashes",
     "--requirement", "{folder}/requirements.txt"],
]  # fmt: skip


def check(spec: JobSpec) -> None:
    """Raises CannotRun for a job that Cloud TPU cannot run."""
    accelerator = spec.accelerator
    if accelerator != accelerators.resolve(accelerator.name, accelerator.topology):
        raise exits.CannotRun(
            f"--accelerator={spec.options.accelerator}: Cloud TPU chooses the machine type; leave out what follows @."
        )
    if spec.options.spot and spec.options.reservation:
        raise exits.CannotRun(
            f"--spot and --reservation={spec.options.reservation} exclude each other: reserved machines are not taken back;"
            " leave one out."
        )


def bucket(spec: JobSpec) -> str:
    """gs://BUCKET/PATH of code and status."""
    return (
        spec.options.narrowed(TpuVmOptions).bucket or f"{spec.run.run_dir.rstrip('/').rpartition('/')[0]}/launch"
    ).rstrip("/")


def folder(spec: JobSpec) -> Name:
    """The folder of a job within the bucket: jobs of one name in two zones share nothing."""
    place = spec.options.narrowed(TpuVmPlace)
    return name_in(f"jobs/{place.project}/{place.zone}/{spec.name}", "the command line")


def is_job(resource: Any) -> bool:
    """Whether a queued resource is Convoy's, by its metadata."""
    specs = resource.tpu.node_spec
    return bool(specs and specs[0].node.metadata.get(JOB))


def job_of(resource: Any) -> dict[str, Any]:
    """The job in the metadata (`request`); empty if the resource is not Convoy's; BadData if Convoy cannot have written it."""
    if not is_job(resource):
        return {}
    source = f"the metadata {JOB} of queued resource {printable(resource.name.rpartition('/')[2])}"
    job: dict[str, Any] = shapes.check(parse_json(resource.tpu.node_spec[0].node.metadata[JOB], source), _JOB, source)
    # The folder is removed with the job, so it has to be one that only jobs have, whoever wrote its name.
    job["folder"] = name_in(job["folder"], source)
    parts = job["folder"].split("/")
    if len(parts) != 4 or parts[0] != "jobs" or parts[3] != resource.name.rpartition("/")[2]:
        raise exits.BadData(f"{source} names the folder {job['folder']}, which is none of this job; look who made it.")
    return job


def request(spec: JobSpec, attempt: int, code: Bundle) -> Any:
    """The QueuedResource of one attempt, from 0; CannotRun if the flags do not fit into a machine's metadata."""
    accelerator = spec.accelerator
    chip = accelerator.chip
    assert chip is not None
    place = spec.options.narrowed(TpuVmPlace)
    parent = f"projects/{place.project}/locations/{place.zone}"
    seconds = round(spec.options.hours * 3600)
    now = time.time()
    job = {
        "name": spec.name,
        "attempt": attempt,
        "id": uuid.uuid5(uuid.NAMESPACE_URL, f"{parent}/{spec.name}/{spec.digest}").hex,
        "digest": spec.digest,
        "node": f"{parent}/nodes/{spec.name}",
        "bucket": bucket(spec),
        "folder": folder(spec),
        "code": f"{bucket(spec)}/{folder(spec)}/{code.name}",
        "sha256": code.sha256,
        "install": _INSTALL,
        "flags": spec.train_flags,
        "run_dir": spec.run.run_dir,
        "workers": spec.workers,
        "max_restarts": spec.options.max_restarts,
        "begun": now,
        "until": now + seconds,
    }
    metadata = {JOB: json.dumps(job), "startup-script": BOOT.read_text(encoding="utf-8")}
    if len(metadata[JOB]) > _MAX_BYTES:
        raise exits.CannotRun(
            f"the flags of {spec.name} do not fit into the {_MAX_BYTES // 1024} KiB of a machine's metadata; give fewer."
        )
    node: dict[str, Any] = {
        "runtime_version": spec.options.narrowed(TpuVmOptions).runtime_version or chips.RUNTIMES[chip.name],
        "labels": {"managed-by": "convoy", "convoy-digest": spec.digest, "convoy-attempt": str(attempt)},
        "metadata": metadata,
        # Without an address of its own a machine reaches no index of packages, unless its network has a NAT.
        "network_config": {"network": "default", "enable_external_ips": True},
        "service_account": {
            "email": spec.options.service_account,
            "scope": [SCOPE],
        },
    }
    if accelerator == accelerators.resolve(accelerator.name):
        node["accelerator_type"] = accelerator.name
    else:
        node["accelerator_config"] = {"type_": chips.TYPES[chip.name], "topology": accelerator.topology}
    resource: dict[str, Any] = {
        "tpu": {"node_spec": [{"parent": parent, "node_id": spec.name, "node": node}]},
        "queueing_policy": {"valid_until_duration": {"seconds": seconds}},
    }
    if spec.options.spot:
        resource["spot"] = {}
    if spec.options.reservation:
        resource["reservation_name"] = f"{parent}/reservations/{spec.options.reservation}"
    return QueuedResource(resource)


def describe(spec: JobSpec, code: Bundle) -> str:
    """The request of the first attempt, and the gcloud commands that do the same."""
    resource = request(spec, 0, code)
    node = resource.tpu.node_spec[0].node
    job = node.metadata[JOB]
    node.metadata["startup-script"] = BOOT.name
    config = node.accelerator_config
    options = spec.options
    what = (
        ["--accelerator-type", node.accelerator_type]
        if node.accelerator_type
        else ["--type", config.type_.name, "--topology", config.topology]
    )
    command = ["gcloud", "compute", "tpus", "queued-resources"]
    place = ["--project", options.narrowed(TpuVmPlace).project, "--zone", options.narrowed(TpuVmPlace).zone]
    create = [
        *command, "create", spec.name, *place, "--node-id", spec.name, *what, "--runtime-version", node.runtime_version,
        "--valid-until-duration", f"{resource.queueing_policy.valid_until_duration.total_seconds():.0f}s", "--labels",
        ",".join(f"{name}={value}" for name, value in sorted(node.labels.items())), "--metadata-from-file",
        f"startup-script={BOOT.name},{JOB}=job.json", "--scopes", ",".join(node.service_account.scope),
    ]  # fmt: skip
    create += ["--spot"] if options.spot else []
    create += ["--service-account", options.service_account] if options.service_account else []
    if options.reservation:  # gcloud's flag that names one is in its alpha track
        create = ["gcloud", "alpha", *create[1:], "--reservation", resource.reservation_name]
    lines = [create, [*command, "describe", spec.name, *place], [*command, "delete", spec.name, "--force", *place]]
    parent = resource.tpu.node_spec[0].parent
    return "\n".join([
        f"# {len(code.data):,} bytes of code to {bucket(spec)}/{folder(spec)}/{code.name}",
        f"# POST https://tpu.googleapis.com/v2/{parent}/queuedResources?queuedResourceId={spec.name}",
        QueuedResource.to_json(
            resource, use_integers_for_enums=False, always_print_fields_with_no_presence=False
        ),
        f"# By hand, with gcloud; job.json holds {job}",
        *(f"#   {shell.line(line)}" for line in lines),
    ])  # fmt: skip
