"""Cloud TPU VMs, by the official client against a server on the loopback interface: every state, and every refusal."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.tpu_v2", reason="google-cloud-tpu is not installed")

from tpu_server import TpuServer

from convoy import exits
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED, NoSuchJob
from convoy.launch.targets.tpu_vm import request as tpu_request
from convoy.launch.targets.tpu_vm import target as tpu_vm
from convoy.launch.targets.tpu_vm.target import TpuVmTarget, later
from convoy.store import open_store
from support import environment

FOLDER = "jobs/p/z/rn50"


def tell(server, index, **status):
    """What a machine would."""
    job = json.loads(server.resources["rn50"]["tpu"]["nodeSpec"][0]["node"]["metadata"]["convoy-job"])
    report = {"phase": "running", "exit_code": None, "restarts": 0, "reason": "", "updated": time.time(), **status}
    open_store(job["bucket"]).put(f"{FOLDER}/{job['attempt']}/worker-{index}.json", json.dumps(report).encode())


def active(server, node="READY"):
    server.resources["rn50"]["state"] = {"state": "ACTIVE"}
    server.nodes["rn50"] = {"name": "projects/p/locations/z/nodes/rn50", "state": node}


def test_a_request_says_all_that_a_machine_needs(server, target, spec, tmp_path):
    asked = spec("--spot", "--hours=6", "--service_account=a@b", train=["--dataset=cifar10"])
    assert target.submit(asked).phase == PENDING
    request = server.resources["rn50"]
    assert request["queueingPolicy"] == {"validUntilDuration": "21600s"}
    assert request["spot"] == {}
    (node_spec,) = request["tpu"]["nodeSpec"]
    node = node_spec["node"]
    assert (node_spec["nodeId"], node["acceleratorType"], node["runtimeVersion"]) == (
        "rn50", "v5litepod-16", "v2-alpha-tpuv5-lite",
    )  # fmt: skip
    assert node["labels"] == {"managed-by": "convoy", "convoy-digest": asked.digest, "convoy-attempt": "0"}
    assert node["metadata"]["startup-script"].startswith("#!/usr/bin/env python3")
    assert node["networkConfig"]["enableExternalIps"] is True
    job = json.loads(node["metadata"]["convoy-job"])
    assert job["flags"] == asked.train_flags
    assert Path(job["code"]).name == f"{job['sha256']}.tar.gz"
    assert Path(job["code"]).is_file()
    assert job["until"] - job["begun"] == 6 * 3600


def test_reserved_machines_are_asked_for_by_name(server, target, spec):
    target.submit(spec("--reservation=r"))
    assert server.resources["rn50"]["reservationName"] == "projects/p/locations/z/reservations/r"
    assert "spot" not in server.resources["rn50"]


@pytest.mark.parametrize("value", ["a b", "$(rm -rf x)", "';`", "ü", "{folder}"])
def test_flags_arrive_as_they_are(server, target, spec, value):
    target.submit(spec(train=[f"--data_dir=gs://b/{value}"]))
    job = json.loads(server.resources["rn50"]["tpu"]["nodeSpec"][0]["node"]["metadata"]["convoy-job"])
    assert f"--data_dir=gs://b/{value}" in job["flags"]


def test_the_same_job_again_changes_nothing_and_another_is_refused(server, target, spec):
    target.submit(spec())
    before = dict(server.resources["rn50"])
    assert target.submit(spec()).phase == PENDING
    assert server.resources["rn50"] == before
    with pytest.raises(exits.CannotRun, match="another job rn50 in z, pending; .*--replace"):
        target.submit(spec(train=["--seed=1"]))
    with pytest.raises(exits.CannotRun, match="there is no package nowhere"):
        target.submit(spec(train=["--model=nowhere.net:build"]), replace=True)
    assert server.resources["rn50"] == before
    assert target.submit(spec(train=["--seed=1"]), replace=True).digest == spec(train=["--seed=1"]).digest


def test_a_job_from_its_queue_to_its_end(server, target, spec):
    target.submit(spec())
    assert "no machines are free" in target.state("rn50").reason
    active(server)
    state = target.state("rn50")
    assert state.phase == PENDING
    assert "their service account may not write to" in state.reason
    tell(server, 0, phase="installing")
    assert "the machines install" in target.state("rn50").reason
    for index in range(4):
        tell(server, index, restarts=index)
    state = target.state("rn50")
    assert (state.phase, state.restarts) == (RUNNING, 3)
    assert state.reason == ""
    tell(server, 3, updated=time.time() - 3600)
    assert target.state("rn50").reason == "1 of its workers has not reported for 10 minutes"
    for index in range(4):
        assert target.state("rn50").phase != SUCCEEDED
        tell(server, index, phase="ended", exit_code=0)
    server.resources["rn50"]["state"] = {"state": "SUSPENDED"}  # its machines are deleted
    assert (target.state("rn50").phase, target.state("rn50").exit_code) == (SUCCEEDED, 0)
    assert [state.name for state in target.jobs()] == ["rn50"]
    assert target.submit(spec()).phase == SUCCEEDED
    bucket = open_store(spec().options.bucket)
    assert any(name.endswith(".tar.gz") for name in bucket.list_names(FOLDER))
    target.remove("rn50")
    assert target.jobs() == []
    assert bucket.list_names() == []
    with pytest.raises(exits.CannotRun, match="there is no job rn50 in z of project p"):
        target.state("rn50")


def test_a_worker_that_fails_is_the_job_s_failure(server, target, spec):
    target.submit(spec())
    active(server)
    tell(server, 2, phase="ended", exit_code=70)
    assert (target.state("rn50").phase, target.state("rn50").exit_code) == (FAILED, 70)


@pytest.mark.parametrize("lost", ["SUSPENDING", "SUSPENDED", "PREEMPTED", "TERMINATED", "no node"])
def test_machines_that_were_taken_back_are_deleted_and_asked_for_again(server, target, spec, lost):
    target.submit(spec())
    if lost.startswith("SUSPEND"):
        server.resources["rn50"]["state"] = {"state": lost}
    else:
        active(server, lost)
        if lost == "no node":
            server.nodes.clear()
    state = target.state("rn50")
    assert (state.phase, state.exit_code) == (FAILED, exits.TRY_AGAIN)
    assert "taken back" in state.reason
    server.requests.clear()
    again = target.submit(spec())
    assert (again.phase, again.restarts) == (PENDING, 1)
    labels = server.resources["rn50"]["tpu"]["nodeSpec"][0]["node"]["labels"]
    assert labels["convoy-attempt"] == "1"
    verbs = [request.split()[0] for request in server.requests]
    # Deleted, looked at until it is gone, and only then made again.
    deleted, created = verbs.index("DELETE"), verbs.index("POST")
    assert "force=true" in server.requests[deleted]
    assert verbs[deleted + 1 : created].count("GET") >= 2


def test_a_request_that_failed_says_why(server, target, spec):
    target.submit(spec())
    error = {"code": 8, "message": "Quota limit 'TPUV5sLitepodPerProjectPerZone' has been exceeded."}
    server.resources["rn50"]["state"] = {"state": "FAILED", "failedData": {"error": error}}
    state = target.state("rn50")
    assert (state.phase, state.exit_code) == (FAILED, exits.CANNOT_RUN)
    assert "TPUV5sLitepodPerProjectPerZone" in state.reason
    assert "another --zone than z" in state.reason
    server.resources["rn50"]["state"] = {"state": "FAILED"}
    assert "valid for --hours" in target.state("rn50").reason


def test_cancelling_asks_the_workers_to_stop_and_then_deletes_the_machines(server, target, spec, monkeypatch):
    monkeypatch.setattr(tpu_vm, "GRACE_SECONDS", 0.05)
    target.submit(spec())
    active(server)
    tell(server, 0)
    bucket = open_store(spec().options.bucket)
    assert target.cancel("rn50").phase == CANCELLED
    assert server.resources == {}
    assert bucket.list_names() == []
    assert target.submit(spec()).phase == PENDING


def test_a_job_that_ends_well_while_it_is_cancelled_has_succeeded(server, target, spec, monkeypatch):
    target.submit(spec(accelerator="v5e-8"))
    active(server)
    tell(server, 0)
    monkeypatch.setattr(tpu_vm.time, "sleep", lambda _: tell(server, 0, phase="ended", exit_code=0))
    assert target.cancel("rn50").phase == SUCCEEDED
    assert target.state("rn50").phase == SUCCEEDED


@pytest.mark.parametrize("changing", ["PROVISIONING", "SUSPENDING"])
def test_a_request_that_cannot_be_deleted_yet_is_asked_again(server, target, spec, changing):
    target.submit(spec())
    server.resources["rn50"]["state"] = {"state": changing}
    if changing == "SUSPENDING":
        assert target.submit(spec()).phase == PENDING
        assert target.state("rn50").restarts == 1
    else:
        assert target.cancel("rn50").phase == CANCELLED
        assert server.resources == {}
    assert sum(request.startswith("DELETE") for request in server.requests) == 2


def test_a_job_that_is_being_deleted_is_cancelled(server, target, spec):
    target.submit(spec())
    server.resources["rn50"]["state"] = {"state": "DELETING"}
    assert target.state("rn50").phase == CANCELLED


def test_an_unknown_state_does_not_begin_a_job_again(server, target, spec):
    target.submit(spec())
    server.resources["rn50"]["state"] = {"state": "STATE_UNSPECIFIED"}
    assert target.submit(spec()).phase == PENDING
    assert not any(request.startswith("DELETE") for request in server.requests)


def test_resources_of_others_are_left_alone(server, target, spec):
    server.resources["rn50"] = {"name": "projects/p/locations/z/queuedResources/rn50", "state": {"state": "ACTIVE"}}
    for replace in (False, True):
        with pytest.raises(exits.CannotRun, match="a queued resource rn50 in z that is not Convoy's"):
            target.submit(spec(), replace)
    assert target.jobs() == []
    with pytest.raises(NoSuchJob):
        target.cancel("rn50")
    assert "rn50" in server.resources


def test_jobs_of_one_name_in_two_zones_share_nothing(server, target, spec, monkeypatch):
    target.submit(spec())
    active(server)
    tell(server, 0, phase="ended", exit_code=70)
    bucket = open_store(spec().options.bucket)
    names_before = dict.fromkeys(bucket.list_names())
    with TpuServer() as elsewhere:
        other = TpuVmTarget("p", "y", elsewhere.client())
        assert other.submit(spec("--zone=y")).phase == PENDING
        assert names_before.keys() < set(bucket.list_names())
        other.cancel("rn50")
    assert set(bucket.list_names()) == names_before.keys()
    assert target.state("rn50").exit_code == 70


def test_a_job_whose_bucket_refuses_is_listed_and_can_be_cancelled(server, target, spec, monkeypatch):
    target.submit(spec())
    active(server)

    class Refusing:
        def get(self, *_, **__):
            raise exits.CannotRun("no such bucket")

        remove = get

    for module in ("status", "target"):
        monkeypatch.setattr(f"convoy.launch.targets.tpu_vm.{module}.open_store", lambda _: Refusing())
    (state,) = target.jobs()
    assert (state.phase, "no such bucket" in state.reason) == (PENDING, True)
    with pytest.raises(exits.CannotRun, match="no such bucket"):
        target.state("rn50")
    assert target.cancel("rn50").phase == CANCELLED
    assert server.resources == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "v5e-8@4t"}, "Cloud TPU chooses the machine type"),
        (
            {"accelerator": "v7x-8"},
            "v7x-8 is newer than the Cloud TPU API.*Give --target=k8s, or start it as an instance group of Comp",
        ),
        ({"accelerator": "tpu7x-8", "own": ["--runtime_version=any"]}, "never starts there"),
        ({"own": ["--spot", "--reservation=r"]}, "--spot and --reservation=r exclude each other"),
    ],
)
def test_jobs_that_cloud_tpu_cannot_run_are_refused_before_any_request(server, target, spec, options, words):
    with pytest.raises(exits.CannotRun, match=words):
        target.submit(spec(*options.pop("own", ()), **options))
    assert not any(request.startswith("POST") for request in server.requests)


def test_metadata_that_is_too_large_is_refused(server, target, spec, monkeypatch):
    """Flags are shorter; what is sent with them may grow."""
    monkeypatch.setattr(tpu_request, "_MAX_BYTES", 100)
    with pytest.raises(exits.CannotRun, match="do not fit into the 0 KiB of a machine's metadata"):
        target.submit(spec())
    assert not any(request.startswith("POST") for request in server.requests)


def test_a_dry_run_touches_nothing(server, target, spec, tmp_path):
    said = target.describe(spec("--topology=4x8x16", accelerator="v4-1024"))
    assert '"topology": "4x8x16"' in said
    assert "gcloud compute tpus queued-resources delete rn50 --force --project p --zone z" in said
    assert "create rn50 --project p --zone z --node-id rn50 --type V4 --topology 4x8x16 --runtime-version tpu-" in said
    assert "--valid-until-duration 259200s" in said
    assert server.requests == []
    assert not (tmp_path / "bucket").exists()


def test_logs_are_those_in_the_bucket(server, target, spec):
    target.submit(spec())
    assert list(target.logs("rn50", 1, follow=False)) == []
    open_store(spec().options.bucket).put(f"{FOLDER}/0/worker-1.log", b"one\ntwo\n")
    assert list(target.logs("rn50", 1, follow=False)) == ["one", "two"]
    with pytest.raises(exits.CannotRun, match="--worker=4: rn50 has 4 workers, from 0 to 3"):
        list(target.logs("rn50", 4, follow=False))


def test_logs_are_followed_to_the_end(server, target, spec, monkeypatch):
    target.submit(spec(accelerator="v5e-8"))
    active(server)
    tell(server, 0)
    bucket = open_store(spec().options.bucket)
    ends = iter([b"one\ntw", b"one\ntwo\n", b"one\ntwo\nthree"])

    def look(_seconds):
        if (text := next(ends, None)) is not None:
            bucket.put(f"{FOLDER}/0/worker-0.log", text)
        else:
            tell(server, 0, phase="ended", exit_code=0)

    monkeypatch.setattr(tpu_vm.time, "sleep", look)
    assert list(target.logs("rn50", 0, follow=True)) == ["one", "two", "three"]


def test_following_tolerates_an_api_that_does_not_answer(server, target, spec, monkeypatch, capsys):
    target.submit(spec(accelerator="v5e-8"))
    active(server)
    tell(server, 0, phase="ended", exit_code=0)
    open_store(spec().options.bucket).put(f"{FOLDER}/0/worker-0.log", b"one\n")
    lines = target.logs("rn50", 0, follow=True)
    find = target._api.find
    refused = iter([exits.TryAgain("the API is away"), exits.TryAgain("the API is away")])

    def away(name):
        if (error := next(refused, None)) is not None:
            raise error
        return find(name)

    # The first question is whether there is such a job; only later ones may go unanswered.
    monkeypatch.setattr(target, "_need", find)
    monkeypatch.setattr(target._api, "find", away)
    assert list(lines) == ["one"]
    assert capsys.readouterr().err.count("convoy: the API is away") == 2


def test_a_log_continues_where_the_last_read_ended():
    lines = [f"step {step}\n".encode() for step in range(3000)]
    assert later(b"", b"".join(lines)) == b"".join(lines)
    # The machine keeps its last bytes: the beginning goes.
    assert later(b"".join(lines[:2000]), b"".join(lines[500:])) == b"".join(lines[2000:])
    assert later(b"".join(lines[:10]), b"".join(lines[2000:])) == b"".join(lines[2000:])


@pytest.mark.thorough
@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed")
def test_the_real_gcloud_asks_for_the_same(server, target, spec, tmp_path):
    said = target.describe(spec("--spot", "--hours=6", "--service_account=a@b.iam.gserviceaccount.com"))
    commands = [shlex.split(line.removeprefix("#   ")) for line in said.splitlines() if line.startswith("#   gcloud")]
    (job,) = (line.partition("job.json holds ")[2] for line in said.splitlines() if "job.json holds" in line)
    (tmp_path / "job.json").write_text(job)
    (tmp_path / "boot.py").write_text(tpu_request.BOOT.read_text())
    variables = environment(
        CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU=f"{server.url}/",
        CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true",
        CLOUDSDK_CONFIG=str(tmp_path / "gcloud"),
        CLOUDSDK_CORE_DISABLE_PROMPTS="1",
    )

    def gcloud(verb):
        (command,) = (command for command in commands if command[4] == verb)
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    gcloud("create")
    asked = server.resources.pop("rn50")
    target.submit(spec("--spot", "--hours=6", "--service_account=a@b.iam.gserviceaccount.com"))
    ours = server.resources["rn50"]
    (node,), (by_gcloud,) = ([entry["node"] for entry in found["tpu"]["nodeSpec"]] for found in (ours, asked))
    for key in ("acceleratorType", "runtimeVersion", "labels", "networkConfig"):
        assert node[key] == by_gcloud[key], key
    assert node["serviceAccount"] == by_gcloud["serviceAccount"]
    assert node["metadata"]["startup-script"] == by_gcloud["metadata"]["startup-script"]
    assert asked["queueingPolicy"] == ours["queueingPolicy"]
    assert "spot" in asked
    gcloud("describe")
    gcloud("delete")
