"""Jobs on Cloud TPU VMs: a queued resource each, by the official client; gcloud is not needed.

A queued resource that was taken back, refused or preempted is never mended: when the same job is submitted again it is deleted,
waited for until it is gone, and made again with the next attempt's label. The machines look after the rest (tpu_vm_boot.py).

Shown against a server on the loopback interface that speaks the API's version 2. No job of Convoy has met Cloud TPU yet.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from convoy import accelerators, exits
from convoy.store import Store, open_store
from launch import bundle, shell
from launch.job import JobSpec
from launch.targets import CANCELLED, ENDS, FAILED, PENDING, RUNNING, SUCCEEDED, JobState, NoSuchJob

try:
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud import tpu_v2
except ImportError as error:
    raise exits.CannotRun(
        f"--target=tpu-vm needs the package google-cloud-tpu, which is not here ({error.name}); run"
        " `pip install 'keras-convoy[launch]'`."
    ) from None

LOOK_SECONDS = 5.0
CREATE_SECONDS = 120.0  # until the request is known to be accepted; longer is no error
GONE_SECONDS = 600.0
GRACE_SECONDS = 150.0  # from the wish to cancel to the end of the machines
# Images without TensorFlow and JAX: the bundle brings an environment of its own. None is known of v7x.
_RUNTIMES = {"v3": "tpu-ubuntu2204-base", "v4": "tpu-ubuntu2204-base", "v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5",
             "v6e": "v2-alpha-tpuv6e"}  # fmt: skip
_TYPES = {"v3": "V3", "v4": "V4", "v5e": "V5LITE_POD", "v5p": "V5P", "v6e": "V6E"}
# The machines' own Python is 3.10: uv brings another one.
INSTALL = [
    ["python3", "-m", "pip", "install", "--quiet", "uv"],
    ["python3", "-m", "uv", "venv", "--quiet", "--python", "3.11", "{folder}/venv"],
    ["python3", "-m", "uv", "pip", "install", "--quiet", "--python", "{folder}/venv/bin/python", "--requirement",
     "{folder}/requirements.txt"],
]  # fmt: skip
_JOB = "convoy-job"  # the metadata that a machine reads
_BOOT = Path(__file__).with_name("tpu_vm_boot.py")
_WAITING = {
    "CREATING": "the request is looked at",
    "ACCEPTED": "the request is in the queue",
    "WAITING_FOR_RESOURCES": "no machines are free in that zone yet",
    "PROVISIONING": "the machines are being made",
}
_LOST_NODE = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING")
T = TypeVar("T")


class TpuVmTarget:
    """The jobs of one zone of a project; `client` is for tests."""

    def __init__(self, project: str, zone: str, client: Any = None):
        self.parent, self.project, self.zone = f"projects/{project}/locations/{zone}", project, zone
        self._given = client

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        check(spec)
        attempt, before = 0, self._find(spec.name)
        if before is not None:
            state, job = self._state(before), _job(before)
            if state.digest != spec.digest and not replace:
                raise exits.CannotRun(
                    f"there is another job {spec.name} in {self.zone}, {state.phase}; give another --name, or --replace to end"
                    " that one first."
                )
            if state.digest == spec.digest:
                if state.phase not in (FAILED, CANCELLED):
                    return state
                attempt = job["attempt"] + 1
            self.cancel(spec.name)
            self._delete(spec.name)
        if attempt == 0:  # what an older job of this name told
            open_store(_bucket(spec)).remove(f"jobs/{spec.name}")
        code = bundle.build(spec.run.model, spec.run.backend)
        code.upload(_bucket(spec))
        request = self._request(spec, attempt, code)
        operation = self._call(
            "create", lambda: self._client().create_queued_resource(
                parent=self.parent, queued_resource_id=spec.name, queued_resource=request
            ),
        )  # fmt: skip
        try:
            self._call("create", lambda: operation.result(timeout=CREATE_SECONDS))
        except exits.TryAgain:
            if self._find(spec.name) is None:
                raise
        return self.state(spec.name)

    def state(self, name: str) -> JobState:
        return self._state(self._need(name))

    def jobs(self) -> list[JobState]:
        return [self._state(found) for found in self._resources() if _job(found)]

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        """What the machine put into the bucket last, up to ten seconds old."""
        shown = 0
        while True:
            found = self._need(name)
            over = not follow or self._state(found).phase in ENDS
            store, folder = _folder(_job(found))
            try:
                lines = store.get(f"{folder}/worker-{worker}.log").decode(errors="replace").splitlines()
            except FileNotFoundError:
                lines = []
            yield from lines[shown:]
            shown = max(shown, len(lines))
            if over:
                return
            time.sleep(LOOK_SECONDS)

    def cancel(self, name: str) -> JobState:
        found = self._need(name)
        state = self._state(found)
        if state.phase in ENDS:
            return state
        job = _job(found)
        store, folder = _folder(job)
        store.put(f"{folder}/cancel", b"")
        deadline = time.monotonic() + (GRACE_SECONDS if state.phase == RUNNING else 0)
        while (state := self.state(name)).phase == RUNNING and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._delete(name)
        return JobState(name, CANCELLED, "its machines are gone", state.restarts, state.digest, state.run_dir)

    def remove(self, name: str) -> None:
        found = self._need(name)
        if self._state(found).phase not in ENDS:
            raise exits.CannotRun(f"{name} has not ended; `convoy launch cancel --name={name}` ends it.")
        job, store = _job(found), open_store(_job(found)["bucket"])
        self._delete(name)
        store.remove(f"jobs/{name}")
        if job["code"] not in {_job(other).get("code") for other in self._resources()}:
            store.remove(job["code"].removeprefix(f"{job['bucket']}/"))

    def describe(self, spec: JobSpec) -> str:
        check(spec)
        code = bundle.build(spec.run.model, spec.run.backend)
        request = self._request(spec, 0, code)
        node = request.tpu.node_spec[0].node
        job, node.metadata["startup-script"] = node.metadata[_JOB], _BOOT.name
        config = node.accelerator_config
        what = (
            ["--accelerator-type", node.accelerator_type]
            if node.accelerator_type
            else ["--type", config.type_.name, "--topology", config.topology]
        )
        command = ["gcloud", "compute", "tpus", "queued-resources"]
        place = ["--project", self.project, "--zone", self.zone]
        create = [
            *command, "create", spec.name, *place, "--node-id", spec.name, *what, "--runtime-version", node.runtime_version,
            "--valid-until-duration", f"{request.queueing_policy.valid_until_duration.total_seconds():.0f}s", "--labels",
            ",".join(f"{name}={value}" for name, value in sorted(node.labels.items())), "--metadata-from-file",
            f"startup-script={_BOOT.name},{_JOB}=job.json",
        ]  # fmt: skip
        create += ["--spot"] if spec.options.spot else []
        create += ["--service-account", spec.options.service_account] if spec.options.service_account else []
        lines = [create, [*command, "describe", spec.name, *place], [*command, "delete", spec.name, "--force", *place]]
        return "\n".join([
            f"# {len(code.data):,} bytes of code to {_bucket(spec)}/{code.name}",
            f"# POST https://tpu.googleapis.com/v2/{self.parent}/queuedResources?queuedResourceId={spec.name}",
            type(request).to_json(request, use_integers_for_enums=False, always_print_fields_with_no_presence=False),
            f"# By hand, with gcloud; job.json holds {job}",
            *(f"#   {shell.line(line)}" for line in lines),
        ])  # fmt: skip

    def _client(self) -> Any:
        if self._given is None:
            self._given = tpu_v2.TpuClient(transport="rest")
        return self._given

    def _request(self, spec: JobSpec, attempt: int, code: bundle.Bundle) -> Any:
        accelerator, chip = spec.accelerator, spec.accelerator.chip
        assert chip is not None
        job = {
            "name": spec.name,
            "attempt": attempt,
            "id": uuid.uuid5(uuid.NAMESPACE_URL, f"{self.parent}/{spec.name}/{spec.digest}").hex,
            "digest": spec.digest,
            "node": f"{self.parent}/nodes/{spec.name}",
            "bucket": _bucket(spec),
            "code": f"{_bucket(spec)}/{code.name}",
            "sha256": code.sha256,
            "install": INSTALL,
            "flags": spec.train_flags,
            "run_dir": spec.run.run_dir,
            "workers": spec.workers,
            "max_restarts": spec.options.max_restarts,
            "seconds": spec.options.hours * 3600,
            "begun": time.time(),
        }
        node: dict[str, Any] = {
            "runtime_version": spec.options.runtime_version or _RUNTIMES[chip.name],
            "labels": {"managed-by": "convoy", "convoy-digest": spec.digest, "convoy-attempt": str(attempt)},
            "metadata": {
                _JOB: json.dumps(job),
                "startup-script": _BOOT.read_text(encoding="utf-8"),
            },
            "service_account": {
                "email": spec.options.service_account,
                "scope": ["https://www.googleapis.com/auth/cloud-platform"],
            },
        }
        if accelerator == accelerators.resolve(accelerator.name):
            node["accelerator_type"] = accelerator.name
        else:
            node["accelerator_config"] = {"type_": _TYPES[chip.name], "topology": accelerator.topology}
        request: dict[str, Any] = {
            "tpu": {"node_spec": [{"parent": self.parent, "node_id": spec.name, "node": node}]},
            "queueing_policy": {"valid_until_duration": {"seconds": round(spec.options.hours * 3600)}},
        }
        if spec.options.spot:
            request["spot"] = {}
        if spec.options.reservation:
            request["reservation_name"] = f"{self.parent}/reservations/{spec.options.reservation}"
        return tpu_v2.QueuedResource(request)

    def _state(self, found: Any) -> JobState:
        """From the queued resource, and what its machines told."""
        job, name, now = _job(found), found.name.rpartition("/")[2], found.state.state.name

        def state(phase: str, reason: str = "", code: int | None = None) -> JobState:
            return JobState(name, phase, reason, restarts, job["digest"], job["run_dir"], code, job["begun"])

        told = _told(job) if now not in _WAITING else []
        restarts = job["attempt"] + max([one["restarts"] for one in told if one], default=0)
        ended = [one for one in told if one and one["phase"] == "ended"]
        for one in ended:
            if one["exit_code"] == exits.STOPPED:
                return state(CANCELLED, one["reason"])
            if one["exit_code"]:
                return state(FAILED, one["reason"], one["exit_code"])
        if ended and len(ended) == job["workers"]:
            return state(SUCCEEDED, " ".join(one["reason"] for one in ended if one["reason"]), exits.OK)
        if now in _WAITING:
            return state(PENDING, _WAITING[now])
        if now == "FAILED":
            error = found.state.failed_data.error
            if error.code == 8:
                return state(FAILED, f"{_quota(error.message, self.zone)}", exits.CANNOT_RUN)
            reason = " ".join(error.message.split()) or "the request was valid for --hours, and those are over"
            return state(FAILED, f"no machines: {reason}; submit it again to ask again", exits.TRY_AGAIN)
        if now == "ACTIVE":
            node = self._node(name)
            if node is not None and node.state.name not in _LOST_NODE:
                phases = [one["phase"] for one in told if one]
                return state(RUNNING) if "running" in phases else state(PENDING, "the machines start and install")
            now = "PREEMPTED" if node is None else node.state.name
        return state(FAILED, f"its machines were taken back ({now.lower()}); submit it again to go on", exits.TRY_AGAIN)

    def _resources(self) -> list[Any]:
        return self._call("list", lambda: list(self._client().list_queued_resources(parent=self.parent)))

    def _find(self, name: str) -> Any:
        try:
            return self._call("get", lambda: self._client().get_queued_resource(name=self._path(name)))
        except FileNotFoundError:
            return None

    def _need(self, name: str) -> Any:
        found = self._find(name)
        if found is None or not _job(found):
            raise NoSuchJob(
                f"there is no job {name} in {self.zone} of project {self.project}; `convoy launch list --target=tpu-vm"
                f" --project={self.project} --zone={self.zone}` lists what there is."
            )
        return found

    def _node(self, name: str) -> Any:
        try:
            return self._call("get", lambda: self._client().get_node(name=f"{self.parent}/nodes/{name}"))
        except FileNotFoundError:
            return None

    def _delete(self, name: str) -> None:
        """Deletes a queued resource and its machines, and returns when it is gone."""
        request = tpu_v2.DeleteQueuedResourceRequest(name=self._path(name), force=True)
        deadline = time.monotonic() + GONE_SECONDS
        while (found := self._find(name)) is not None:
            if found.state.state.name != "DELETING":
                try:
                    self._call("delete", lambda: self._client().delete_queued_resource(request))
                except FileNotFoundError:
                    return
            if time.monotonic() > deadline:
                raise exits.TryAgain(f"{name} is still being deleted after {GONE_SECONDS:g} s; try it again later.")
            time.sleep(LOOK_SECONDS)

    def _path(self, name: str) -> str:
        return f"{self.parent}/queuedResources/{name}"

    def _call(self, verb: str, function: Callable[[], T]) -> T:
        """One request; FileNotFoundError if there is no such thing, a sentence for every other refusal."""
        what = f"cannot {verb} queued resources in {self.zone} of project {self.project}"
        login = "`gcloud auth application-default login`"
        try:
            return function()
        except api.NotFound as error:
            if verb in ("get", "delete"):
                raise FileNotFoundError(str(error)) from None
            raise exits.CannotRun(
                f"{what}: there is no such zone or project, or no Cloud TPU in it; `gcloud compute tpus locations list"
                f" --project={self.project}` lists the zones."
            ) from None
        except (api.ResourceExhausted, api.TooManyRequests) as error:
            raise exits.CannotRun(f"{what}: {_quota(error.message, self.zone)}.") from None
        except (auth.TransportError, api.ServerError, api.RetryError, requests.RequestException, TimeoutError) as error:
            raise exits.TryAgain(f"{what} now: {type(error).__name__}; try the same command again.") from None
        except (api.Unauthenticated, api.Unauthorized, auth.GoogleAuthError):
            raise exits.CannotRun(f"{what}: there are no valid credentials; run {login}.") from None
        except api.Forbidden as error:
            raise exits.CannotRun(
                f"{what}: {_one_line(error.message)}; ask for roles/tpu.admin, switch the API on with `gcloud services enable"
                f" tpu.googleapis.com --project={self.project}`, or run {login} as somebody who may."
            ) from None
        except api.Conflict:
            raise exits.TryAgain(f"{what}: it is there already, made just now by somebody else; look again.") from None
        except api.GoogleAPICallError as error:
            raise exits.CannotRun(f"{what}: {_one_line(error.message)}.") from None


def check(spec: JobSpec) -> None:
    """CannotRun for what Cloud TPU, or TensorFlow on it, cannot do."""
    accelerator, chip = spec.accelerator, spec.accelerator.chip
    assert chip is not None
    if spec.run.backend == "tensorflow" and (accelerator.hosts > 1 or chip.name in ("v6e", "v7x")):
        why = "on several machines" if accelerator.hosts > 1 else f"on {chip.name}"
        raise exits.CannotRun(
            f"--backend=tensorflow: TensorFlow cannot train {why} of Cloud TPU, and gets no new versions there; give"
            " --backend=jax after --, which trains the same models."
        )
    if accelerator != accelerators.resolve(accelerator.name, accelerator.topology):
        raise exits.CannotRun(
            f"--accelerator={spec.options.accelerator}: Cloud TPU chooses the machine type; leave out what follows @."
        )
    if chip.name not in _RUNTIMES and not spec.options.runtime_version:
        raise exits.CannotRun(
            f"--runtime_version is missing: which image machines with {chip.name} take is not known here; `gcloud compute tpus"
            f" tpu-vm versions list --zone={spec.options.zone}` lists them."
        )
    if chip.name not in _TYPES and accelerator != accelerators.resolve(accelerator.name):
        raise exits.CannotRun(f"--topology={accelerator.topology}: Cloud TPU has no choice of shapes for {chip.name}.")


def _bucket(spec: JobSpec) -> str:
    """gs://BUCKET/PATH for code and status."""
    return (spec.options.bucket or f"{spec.run.run_dir.rstrip('/').rpartition('/')[0]}/launch").rstrip("/")


def _job(found: Any) -> dict[str, Any]:
    """What was submitted; empty if it was not Convoy that did."""
    specs = found.tpu.node_spec
    return json.loads(specs[0].node.metadata.get(_JOB, "{}")) if specs else {}


def _folder(job: dict[str, Any]) -> tuple[Store, str]:
    return open_store(job["bucket"]), f"jobs/{job['name']}/{job['attempt']}"


def _told(job: dict[str, Any]) -> list[dict[str, Any] | None]:
    """worker-N.json of each worker."""
    store, folder = _folder(job)
    found: list[dict[str, Any] | None] = []
    for index in range(job["workers"]):
        try:
            found.append(json.loads(store.get(f"{folder}/worker-{index}.json")))
        except FileNotFoundError:
            found.append(None)
    return found


def _quota(message: str, zone: str) -> str:
    return (
        f"the quota is used up: {_one_line(message)}; free some with `convoy launch gc`, take another --zone than {zone}, or"
        " ask for more at https://console.cloud.google.com/iam-admin/quotas"
    )


def _one_line(text: str) -> str:
    """A message of the API; the client puts its request before it."""
    text = re.sub(r"^[A-Z]+ https?://\S+: ", "", text)
    return " ".join(text.split()).rstrip(".")[:600]
