"""Cloud TPU VMs: pinned packages, and hostile statuses, logs and metadata of machines."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import tpu_v2
from tpu_server import TpuServer

import mutations
from clusters import ESCAPES, TPU, TPU_RUN, assert_printable
from convoy import exits
from convoy.launch import follow, watch
from convoy.launch.command_line import from_argv
from convoy.launch.targets.base import FAILED, PENDING, RUNNING, SUCCEEDED
from convoy.launch.targets.tpu_vm import api as tpu_api
from convoy.launch.targets.tpu_vm import boot, bundle, request
from convoy.launch.targets.tpu_vm import status as tpu_status
from convoy.launch.targets.tpu_vm.target import TpuVmTarget
from convoy.store import open_store

pytestmark = pytest.mark.slow  # processes


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_machines_install_nothing_without_a_hash(backend):
    with tarfile.open(fileobj=io.BytesIO(bundle.build("resnet18", backend).data)) as tar:
        lists = {name: tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")}
    for text in lists.values():
        for entry in text.replace("\\\n", " ").splitlines():
            assert re.match(r"[\w.-]+(\[\w+\])?==[\w.]+( ;.*?)? +--hash=sha256:[0-9a-f]{64}", entry), entry
    installing = [line for line in request._INSTALL if "install" in line]
    assert len(installing) == 2
    for line in installing:
        assert "--require-hashes" in line
        (place,) = [word for word in line if word.endswith(".txt")]
        assert line[-1] == place
        assert place.removeprefix("{folder}/") in lists


def test_a_job_without_an_account_of_its_own_gets_a_warning(launch):
    code, output = launch("submit", "--dry_run", *TPU, *TPU_RUN)
    assert code == exits.OK
    assert "without --service_account the machines act as Compute Engine's default account" in output
    assert "https://www.googleapis.com/auth/cloud-platform" in output.partition("give an account")[0]
    assert "default account" not in launch("submit", "--dry_run", *TPU, "--service_account=a@b", *TPU_RUN)[1]


@pytest.fixture
def zone(monkeypatch, tmp_path) -> Iterator[Any]:
    """A zone of Cloud TPU with the job rn50, whose bucket is a folder."""
    with TpuServer() as server:
        target = TpuVmTarget("p", "z", server.client())
        monkeypatch.setattr(watch, "open_target", lambda *_: target)
        monkeypatch.setattr(tpu_api, "FIRST_PAUSE_SECONDS", 0.001)
        monkeypatch.setattr(bundle, "build", lambda *_: bundle.Bundle(b"code"))
        for name in ("rn50", "other"):
            words = [*TPU[:3], f"--name={name}", TPU[4], f"--bucket={tmp_path}/bucket", *TPU_RUN]
            target.submit(from_argv(words))
            server.resources[name]["state"] = {"state": "ACTIVE"}
            server.nodes[name] = {"name": f"projects/p/locations/z/nodes/{name}", "state": "READY"}
        yield server


STATUS = {"phase": "running", "exit_code": None, "restarts": 0, "reason": "", "updated": 0.0}


def statuses(tmp_path: Path, name: str = "rn50") -> Path:
    """Where the machines of a job write their statuses and logs."""
    place = tmp_path / "bucket" / "jobs" / "p" / "z" / name / "0"
    place.mkdir(parents=True, exist_ok=True)
    return place


def metadata(server: Any, name: str) -> dict[str, str]:
    return server.resources[name]["tpu"]["nodeSpec"][0]["node"]["metadata"]


@pytest.mark.parametrize(
    "status",
    [b"\xff", b"[" * 10_000, b"[]", b'{"phase": "running"', b"{}",
     {"phase": 1}, {"phase": "mine"}, {"restarts": "many"}, {"restarts": -1}, {"restarts": 2**40}, {"reason": None},
     {"updated": "now"}, {"updated": 10**400}, {"updated": -1},
     *({"phase": "ended", "exit_code": code} for code in (256, 2**64, -1, 0.5, True))],
    ids=lambda status: ascii(status)[:40],
)  # fmt: skip
def test_an_unreadable_status_of_a_worker_hides_no_other_job(zone, launch, tmp_path, status):
    """With an exit code of 256 `wait` would end with 0, as if the job had succeeded."""
    data = status if isinstance(status, bytes) else json.dumps(STATUS | status).encode()
    (statuses(tmp_path) / "worker-0.json").write_bytes(data)
    (statuses(tmp_path, "other") / "worker-0.json").write_text(json.dumps(STATUS | {"updated": time.time()}))
    code, output = launch("list", *TPU[:3])
    assert code == exits.OK
    other, broken = sorted(output.splitlines())
    assert other == "other: running"
    assert broken.startswith("rn50: pending, what its machines told cannot be read: ")
    assert "worker-0.json" in broken
    for verb in ("status", "wait"):
        assert launch(verb, *TPU[:4])[0] == exits.BAD_DATA
    assert launch("gc", *TPU[:3])[0] == exits.OK


@pytest.mark.parametrize(
    "changed",
    [{"workers": 10**9}, {"workers": -1}, {"workers": "1"}, {"attempt": "../.."}, {"attempt": -1}, {"folder": "precious"},
     {"folder": "../precious"}, {"folder": "ABSOLUTE"}, {"folder": "jobs/p/z/other"}, {"bucket": None}, {"begun": "now"},
     {"begun": 1e300}, {"begun": -1}, {"attempt": 2**40}, None],
    ids=str,
)  # fmt: skip
def test_metadata_that_is_no_job_of_ours_hides_no_other_and_removes_nothing(zone, launch, tmp_path, changed):
    """`gc` and `cancel` remove the folder that metadata name, and more people may write metadata than submit jobs."""
    job = json.loads(metadata(zone, "rn50")["convoy-job"])
    text = "[" if changed is None else json.dumps(job | changed)
    metadata(zone, "rn50")["convoy-job"] = text.replace("ABSOLUTE", f"{tmp_path}/precious")
    for folder in (tmp_path / "bucket" / "precious", tmp_path / "precious"):
        folder.mkdir(exist_ok=True)
        (folder / "marker").touch()
    ended = json.dumps(STATUS | {"phase": "ended", "exit_code": 0})
    (statuses(tmp_path) / "worker-0.json").write_text(ended)
    for precious in ("precious", "../precious"):
        (tmp_path / "bucket" / precious / "0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / precious / "0" / "worker-0.json").write_text(ended)
    with mutations.untouched(tmp_path):
        code, output = launch("list", *TPU[:3])
        assert code == exits.OK
        assert [line for line in output.splitlines() if line.startswith("other: ")]
        assert [line for line in output.splitlines() if line.startswith("rn50: pending, the metadata convoy-job of")]
        assert launch("gc", *TPU[:3])[0] == exits.OK
        for verb in ("cancel", "status", "logs"):
            assert launch(verb, *TPU[:4])[0] == exits.BAD_DATA
    assert not [line for line in zone.requests if line.startswith("DELETE")]


def test_no_escape_sequence_of_a_machine_reaches_a_terminal(zone, launch, tmp_path):
    (statuses(tmp_path) / "worker-0.log").write_bytes(f"{ESCAPES}\r10%\r\n".encode())
    code, output = launch("logs", *TPU[:4])
    assert code == exits.OK
    assert_printable(output)
    ended = STATUS | {"phase": "ended", "exit_code": 70, "reason": f"diverged {ESCAPES}"}
    (statuses(tmp_path) / "worker-0.json").write_text(json.dumps(ended))
    for verb in (["list", *TPU[:3]], ["status", *TPU[:4]], ["wait", *TPU[:4]]):
        code, output = launch(*verb)
        assert "diverged \\x1b[2J" in output
        assert_printable(output)
    zone.faults += [(400, f"no {ESCAPES}")]
    code, output = launch("list", *TPU[:3])
    assert code == exits.CANNOT_RUN
    assert_printable(output)


def test_a_log_larger_than_any_machine_writes_is_not_read(zone, launch, tmp_path):
    with (statuses(tmp_path) / "worker-0.log").open("wb") as log:
        log.truncate(9_000_000)  # a machine leaves its last 4 MB
    code, output = launch("logs", *TPU[:4])
    assert code == exits.BAD_DATA
    assert "worker-0.log has more than 8,000,000 bytes" in output


def folders_only(url: str) -> Any:
    if "://" in url:
        raise exits.CannotRun(f"{url!r} is away.")
    return open_store(url)


@mutations.counts(150, 400)
def test_whatever_a_bucket_and_metadata_hold_a_job_is_listed(zone, tmp_path, monkeypatch, count):
    """Draws both documents: reading a job never fails and writes nothing."""

    job = json.loads(metadata(zone, "rn50")["convoy-job"])
    api = TpuVmTarget("p", "z", zone.client())._api
    node = api.node("rn50")
    monkeypatch.setattr(api, "node", lambda name: node)  # READY, so that its worker's last status counts
    for module in (tpu_status, watch):
        monkeypatch.setattr(module, "open_store", folders_only)
    phases: set[str] = set()
    file = statuses(tmp_path) / "worker-0.json"
    for number in range(count):
        with mutations.case(mutations.SEED, number) as chance:
            phase, code = chance.choice([("running", None), ("ended", 0), ("ended", 70)])
            file.write_bytes(mutations.document(STATUS | {"phase": phase, "exit_code": code}, chance))
            text = mutations.document(job, chance) if chance.random() < 0.5 else json.dumps(job).encode()
            resource = tpu_v2.QueuedResource(tpu={"node_spec": [{"node": {"metadata": {}}}]}, state={"state": "ACTIVE"})
            resource.name = "projects/p/locations/z/queuedResources/rn50"
            with contextlib.suppress(ValueError):  # protocol buffers hold UTF-8 only
                resource.tpu.node_spec[0].node.metadata["convoy-job"] = text.decode()
            if not resource.tpu.node_spec[0].node.metadata.get("convoy-job"):
                continue
            with mutations.untouched(tmp_path):
                state = tpu_status.state_or_why(api, resource)
                details = [value for row in watch._details(state) for value in row]
            assert state.name == "rn50"
            assert state.exit_code is None or state.exit_code in range(256)
            assert_printable(follow.line(state))
            assert all(isinstance(text, str) for text in details)
            phases.add(state.phase)
    assert phases == {PENDING, RUNNING, FAILED, SUCCEEDED}


def test_a_machine_ignores_unreadable_statuses_of_its_peers():

    assert boot.status_of(json.dumps(STATUS).encode()) == STATUS
    for number in range(500):
        with mutations.case(mutations.SEED, number) as chance:
            status = boot.status_of(mutations.document(STATUS, chance))
            assert status is None or (status["phase"] in boot.PHASES and type(status["restarts"]) is int)
    for changed in ({"restarts": -1}, {"restarts": 2**40}, {"exit_code": 256}, {"exit_code": -1}):
        assert boot.status_of(json.dumps(STATUS | changed).encode()) is None
