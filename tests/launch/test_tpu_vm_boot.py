"""What a TPU VM does, as a real process: metadata, bucket and API are servers on the loopback interface; systemd is absent."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("google.cloud.tpu_v2", reason="google-cloud-tpu is not installed")

from tpu_server import TpuServer

from buckets import Emulator
from convoy.store import open_store
from launch import bundle
from launch.targets import tpu_vm_boot
from support import environment

# Stands in for launch.worker: says what it was given, then does what the test wants at this start.
STUB = """
import json, os, signal, sys, time
names = ("CONVOY_WORKERS", "CONVOY_HOSTS", "JOB_COMPLETION_INDEX", "CONVOY_RESTART_ATTEMPT", "CONVOY_WRITER")
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), **{name: os.environ[name] for name in names}}), flush=True)
if CODES == "wait":
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    time.sleep(60)
code = CODES[min(int(os.environ["CONVOY_RESTART_ATTEMPT"]) - 3, len(CODES) - 1)]
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.create("bucket")
        yield emulator


class Machine:
    """A job's metadata and the servers around it."""

    def __init__(self, emulator, server, tmp_path, monkeypatch):
        self.server, self.home = server, tmp_path / "home"
        self.bucket = f"gs://bucket/{uuid.uuid4().hex}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.host)
        self.store = open_store(self.bucket)
        self.job = {
            "name": "rn50", "attempt": 3, "id": "one", "node": "projects/p/locations/z/nodes/rn50", "bucket": self.bucket,
            "install": [["mkdir", "-p", "{folder}/user"], ["ln", "-s", sys.prefix, "{folder}/venv"]],
            "flags": ["--data_dir=$(touch x) ' \"", "--seed=1"], "workers": 1, "max_restarts": 2, "seconds": 600,
        }  # fmt: skip
        self.attributes = {"worker-network-endpoints": "a:1:127.0.0.1", "agent-worker-number": "0"}
        server.resources["rn50"] = {"state": {"state": "ACTIVE"}}
        server.nodes["rn50"] = {}

    def ship(self, data):
        self.job |= {"sha256": hashlib.sha256(data).hexdigest(), "code": f"{self.bucket}/code/it.tar.gz"}
        self.store.put("code/it.tar.gz", data)

    def ship_stub(self, codes):
        files = {"launch/__init__.py": b"", "launch/worker.py": f"CODES = {codes!r}\n{STUB}".encode()}
        self.ship(tar(files))

    def start(self):
        self.attributes["convoy-job"] = json.dumps(self.job)
        attributes = self.attributes

        class Metadata(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.headers["Metadata-Flavor"] == "Google"
                name = self.path.rpartition("/")[2]
                self.send_response(200)
                self.end_headers()
                self.wfile.write((attributes.get(name) or '{"access_token": "secret-token"}').encode())

            def log_message(self, *_):
                pass

        self.metadata = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=self.metadata.serve_forever, args=(0.02,), daemon=True).start()
        variables = environment(
            CONVOY_HOME=str(self.home),
            GCE_METADATA_HOST=f"127.0.0.1:{self.metadata.server_port}",
            CONVOY_TPU_HOST=self.server.url,
            CONVOY_LOOK_SECONDS="0.05",
        )
        return subprocess.Popen(
            [sys.executable, tpu_vm_boot.__file__, "run"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, seconds=60):
        process = self.start()
        said = process.communicate(timeout=seconds)[0].decode()
        self.metadata.shutdown()
        assert process.returncode == 0, said
        return self.told()

    def told(self, worker=0):
        return json.loads(self.store.get(f"jobs/rn50/3/worker-{worker}.json"))

    def log(self):
        try:
            return self.store.get("jobs/rn50/3/worker-0.log").decode()
        except FileNotFoundError:
            return ""


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as found:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            found.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def machine(emulator, tmp_path, monkeypatch):
    with TpuServer() as server:
        yield Machine(emulator, server, tmp_path, monkeypatch)


def test_a_worker_starts_again_after_42_and_the_machines_go_when_it_has_ended(machine):
    machine.ship_stub([42, -9, 0])
    told = machine.run()
    assert (told["phase"], told["exit_code"], told["restarts"]) == ("ended", 0, 2)
    lines = [json.loads(line) for line in machine.log().splitlines()]
    assert [line["CONVOY_RESTART_ATTEMPT"] for line in lines] == ["3", "4", "5"]
    for line in lines:
        assert line["argv"] == ["--", *machine.job["flags"]]
        assert (line["CONVOY_WORKERS"], line["CONVOY_HOSTS"], line["CONVOY_WRITER"]) == ("1", "127.0.0.1", "one")
    assert not list(machine.home.rglob("x"))
    # The queued resource stays, and says that its machines are gone.
    assert machine.server.nodes == {}
    assert machine.server.resources["rn50"]["state"]["state"] == "SUSPENDED"
    # A boot after the end changes nothing.
    before = machine.log(), machine.told()
    machine.run()
    assert (machine.log(), machine.told()) == before


@pytest.mark.parametrize(("codes", "code", "restarts"), [([70], 70, 0), ([42, 78], 78, 1), ([42], 42, 2)])
def test_what_does_not_heal_is_an_end(machine, codes, code, restarts):
    machine.ship_stub(codes)
    told = machine.run()
    assert (told["exit_code"], told["restarts"]) == (code, restarts)
    assert machine.server.nodes == {}


def test_a_worker_whose_peer_has_failed_for_good_ends_as_that_did(machine):
    machine.attributes["worker-network-endpoints"] = "127.0.0.1,127.0.0.1"
    machine.store.put("jobs/rn50/3/worker-1.json", json.dumps({"phase": "ended", "exit_code": 70}).encode())
    machine.ship_stub([42])
    assert machine.run()["exit_code"] == 70


def test_other_code_than_was_submitted_is_refused(machine):
    machine.ship_stub([0])
    machine.store.put("code/it.tar.gz", tar({"launch/worker.py": b"print('stolen')"}))
    told = machine.run()
    assert told["exit_code"] == 78
    assert "its SHA-256 is another one" in told["reason"]
    assert not list(machine.home.rglob("*.py"))


def test_a_bundle_writes_nowhere_else(machine, tmp_path):
    machine.ship(tar({"../../outside.py": b""}))
    told = machine.run()
    assert (told["exit_code"], "no file of its own" in told["reason"]) == (78, True)
    assert not list(tmp_path.rglob("outside.py"))


def test_a_job_is_cancelled_through_the_bucket(machine):
    machine.ship_stub("wait")
    process = machine.start()
    deadline = time.monotonic() + 30
    while "CONVOY_WRITER" not in machine.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    machine.store.put("jobs/rn50/3/cancel", b"")
    said = process.communicate(timeout=30)[0].decode()
    machine.metadata.shutdown()
    assert machine.told()["exit_code"] == 130
    assert machine.server.nodes == {}
    assert "secret-token" not in said + machine.log() + json.dumps(machine.told())


def test_a_job_has_its_hours(machine):
    machine.ship_stub("wait")
    machine.job["seconds"] = 0.2
    told = machine.run()
    assert (told["exit_code"], told["reason"]) == (130, "its --hours are over")


def test_the_real_bundle_trains_digits_into_the_bucket(machine, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.py").write_text(
        "import convoy\nimport keras\n\nprint('house', convoy.__file__)\n\n\ndef build(shape, classes):\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)])\n"
    )
    monkeypatch.chdir(tmp_path)
    machine.ship(bundle.build("mine.net:build", "jax").data)
    run = f"{machine.bucket}/run"
    machine.job["flags"] = ["--model=mine.net:build", "--duration=20st", f"--run_dir={run}", "--backend=jax"]
    told = machine.run(seconds=150)
    assert told["exit_code"] == 0, machine.log()
    assert json.loads(open_store(run).get("result.json"))["step"] == 20
    # What ran is what was shipped, not the installation of these tests.
    assert f"house {machine.home / machine.job['sha256']}/convoy/" in machine.log()
