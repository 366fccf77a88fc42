"""What a TPU VM does, as a real process: metadata, bucket and API are servers on the loopback interface; systemd is absent."""

from __future__ import annotations

import ast
import configparser
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.tpu_v2", reason="google-cloud-tpu is not installed")

from tpu_server import TpuServer

from convoy.launch.targets.tpu_vm import boot, bundle
from convoy.store import open_store
from support import environment, free_ports

pytestmark = pytest.mark.slow

# Stands in for convoy.launch.worker: says what it was given, then does what the test wants at this start.
STUB = """
import json, os, signal, sys, time
names = ("CONVOY_WORKERS", "CONVOY_HOSTS", "JOB_COMPLETION_INDEX", "CONVOY_RESTART_ATTEMPT", "CONVOY_WRITER")
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), **{name: os.environ[name] for name in names}}), flush=True)
if CODES == "wait":
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    time.sleep(60)
code = CODES[min(int(os.environ["CONVOY_RESTART_ATTEMPT"]) - 3, len(CODES) - 1)]
if code == 70:
    print("convoy: the loss is no number.\\n# of its threads", file=sys.stderr, flush=True)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Machine:
    """A job's metadata and the servers around it."""

    def __init__(self, bucket, server, tmp_path, monkeypatch):
        self.server, self.home, self.metadata = server, tmp_path / "home", []
        self.bucket = bucket
        self.store = open_store(self.bucket)
        self.job = {
            "name": "rn50", "attempt": 3, "id": "one", "node": "projects/p/locations/z/nodes/rn50", "bucket": self.bucket,
            "folder": "jobs/p/z/rn50", "until": time.time() + 600,
            "install": [["mkdir", "-p", "{folder}/user"], ["ln", "-s", sys.prefix, "{folder}/venv"]],
            "flags": ["--data_dir=$(touch x) ' \"", "--seed=1"], "workers": 1, "max_restarts": 2,
        }  # fmt: skip
        self.attributes = {"worker-network-endpoints": "a:1:127.0.0.1", "agent-worker-number": "0"}
        server.resources["rn50"] = {"state": {"state": "ACTIVE"}}
        server.nodes["rn50"] = {}

    def ship(self, data):
        self.job |= {"sha256": hashlib.sha256(data).hexdigest(), "code": f"{self.bucket}/code/it.tar.gz"}
        self.store.put("code/it.tar.gz", data)

    def ship_stub(self, codes):
        packages = dict.fromkeys(("convoy/__init__.py", "convoy/launch/__init__.py"), b"")
        self.ship(tar({**packages, "convoy/launch/worker.py": f"CODES = {codes!r}\n{STUB}".encode()}))

    def start(self, **variables):
        attributes = {**self.attributes, "convoy-job": json.dumps(self.job)}

        class Metadata(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.headers["Metadata-Flavor"] == "Google"
                name = self.path.rpartition("/")[2]
                self.send_response(200)
                self.end_headers()
                self.wfile.write((attributes.get(name) or '{"access_token": "secret-token"}').encode())

            def log_message(self, *_):
                pass

        metadata = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=metadata.serve_forever, args=(0.02,), daemon=True).start()
        self.metadata.append(metadata)
        variables = environment(
            **{
                "CONVOY_HOME": str(self.home),
                "GCE_METADATA_HOST": f"127.0.0.1:{metadata.server_port}",
                "CONVOY_TPU_HOST": self.server.url,
                "CONVOY_LOOK_SECONDS": "0.05",
                **variables,
            }
        )
        return subprocess.Popen(
            [sys.executable, "-S", boot.__file__, "run"],  # -S: a TPU VM has the standard library alone
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def end(self, process, code=0, seconds=30):
        """Waits for the service to end, with that exit code; what it printed."""
        said = process.communicate(timeout=seconds)[0].decode()
        assert process.returncode == code, said
        return said

    def wait_for_worker(self):
        deadline = time.monotonic() + 30
        while "CONVOY_WRITER" not in self.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def of_two(self, index):
        """This is one of two machines."""
        self.job["workers"] = 2
        self.attributes |= {"worker-network-endpoints": "127.0.0.1,127.0.0.1", "agent-worker-number": str(index)}

    def put(self, worker, **report):
        status = {"restarts": 0, "exit_code": None, **report}
        self.store.put(f"jobs/p/z/rn50/3/worker-{worker}.json", json.dumps(status).encode())

    def run(self, seconds=60):
        process = self.start()
        self.end(process, seconds=seconds)
        return self.report()

    def report(self, worker=0):
        return json.loads(self.store.get(f"jobs/p/z/rn50/3/worker-{worker}.json"))

    def log(self):
        try:
            return self.store.get("jobs/p/z/rn50/3/worker-0.log").decode()
        except FileNotFoundError:
            return ""


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def machine(bucket, tmp_path, monkeypatch):
    with TpuServer() as server:
        machine = Machine(bucket, server, tmp_path, monkeypatch)
        yield machine
        for metadata in machine.metadata:
            metadata.shutdown()
            metadata.server_close()


def test_a_worker_starts_again_after_42_and_the_machines_go_when_it_has_ended(machine):
    machine.ship_stub([42, -9, 0])
    report = machine.run()
    assert (report["phase"], report["exit_code"], report["restarts"]) == ("ended", 0, 2)
    lines = [json.loads(line) for line in machine.log().splitlines()]
    assert [line["CONVOY_RESTART_ATTEMPT"] for line in lines] == ["3", "4", "5"]
    for line in lines:
        assert line["argv"] == ["--", *machine.job["flags"]]
        assert (line["CONVOY_WORKERS"], line["CONVOY_HOSTS"], line["CONVOY_WRITER"]) == ("1", "localhost", "one")
    assert not list(machine.home.rglob("x"))
    # The queued resource stays, and says that its machines are gone.
    assert machine.server.nodes == {}
    assert machine.server.resources["rn50"]["state"]["state"] == "SUSPENDED"
    # A boot after the end changes nothing.
    before = machine.log(), machine.report()
    machine.run()
    assert (machine.log(), machine.report()) == before


@pytest.mark.parametrize(
    ("codes", "code", "restarts"), [([70], 70, 0), ([42, 78], 78, 1), ([42], 42, 2), ([130], 130, 0)]
)
def test_a_permanent_failure_is_an_end(machine, codes, code, restarts):
    machine.ship_stub(codes)
    report = machine.run()
    assert (report["exit_code"], report["restarts"]) == (code, restarts)
    assert report["reason"] == ("the loss is no number." if code == 70 else "")
    assert machine.server.nodes == {}


def test_machines_that_cannot_be_deleted_are_reported(machine):
    machine.ship_stub([0])
    machine.server.faults += [(503, "away")]
    machine.run()
    assert machine.server.nodes == {}
    machine.server.nodes["rn50"] = {}
    machine.server.faults += [(403, "no")] * 10
    machine.job["attempt"] = 4
    machine.end(machine.start())
    report = json.loads(machine.store.get("jobs/p/z/rn50/4/worker-0.json"))
    assert (report["phase"], report["exit_code"]) == ("ended", 0)
    assert "could not be deleted (HTTP Error 403: Forbidden): `convoy launch gc` does it" in report["reason"]


def test_a_worker_whose_peer_has_failed_permanently_ends_with_its_code(machine):
    machine.of_two(0)
    machine.put(1, phase="ended", exit_code=70)
    machine.ship_stub([42])
    assert machine.run()["exit_code"] == 70


def test_a_worker_that_dies_after_the_first_has_finished_is_not_started_again(machine):
    machine.of_two(1)
    machine.put(0, phase="ended", exit_code=0)
    machine.ship_stub([-9])
    machine.run()
    report = machine.report(1)
    assert (report["exit_code"], report["restarts"]) == (0, 0)
    assert machine.server.nodes  # the first one's to delete


def test_a_machine_that_is_switched_off_goes_on_at_its_next_boot(machine):
    machine.ship_stub("wait")
    process = machine.start()
    machine.wait_for_worker()
    process.terminate()
    machine.end(process)
    assert machine.report()["phase"] == "running"
    assert machine.server.nodes
    # What it had spent is spent.
    machine.put(0, phase="running", exit_code=None, restarts=2)
    machine.ship_stub([42, 42, 42])
    report = machine.run()
    assert (report["exit_code"], report["restarts"]) == (42, 2)
    assert [json.loads(line)["CONVOY_RESTART_ATTEMPT"] for line in machine.log().splitlines()] == ["3", "5"]


def test_machines_are_deleted_though_the_first_was_switched_off_after_its_last_report(machine):
    machine.put(0, phase="ended", exit_code=0, restarts=0)
    machine.ship_stub([0])
    machine.run()
    assert machine.server.nodes == {}
    assert machine.log() == ""


def test_missing_code_is_reported(machine):
    machine.ship_stub([0])
    machine.store.remove("code")
    report = machine.run()
    assert (report["exit_code"], "its code was removed" in report["reason"]) == (78, True)


def test_a_failing_installation_is_retried_and_then_ends_the_job(machine):
    machine.ship_stub([0])
    machine.job["install"] = [["sh", "-c", "echo no matching distribution; exit 3"]]
    report = machine.run()
    assert report["exit_code"] == 78
    assert "installing failed, exit code 3" in report["reason"]
    assert machine.log() == "no matching distribution\n" * 3
    assert machine.server.nodes == {}


def test_machines_that_achieve_nothing_are_deleted(machine):
    machine.ship_stub([0])
    nobody = "http://127.0.0.1:1"
    # At first systemd may try it again.
    machine.end(machine.start(STORAGE_EMULATOR_HOST=nobody, CONVOY_PATIENCE_SECONDS="1e9"), code=1)
    assert machine.server.nodes
    said = machine.end(machine.start(STORAGE_EMULATOR_HOST=nobody, CONVOY_PATIENCE_SECONDS="0"), code=1)
    assert "convoy: given up" in said
    assert machine.server.nodes == {}


def test_the_script_runs_on_the_python_of_a_machine():
    source = Path(boot.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_the_service_is_written_and_started_but_not_restarted(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(boot, "HOME", tmp_path / "home")
    monkeypatch.setattr(boot, "UNIT", tmp_path / "convoy.service")
    monkeypatch.setattr(boot.subprocess, "run", lambda words, check: calls.append(words[1]))
    monkeypatch.setattr(sys, "argv", ["startup-script"])
    boot.main()
    assert calls == ["daemon-reload", "enable", "start"]
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read(tmp_path / "convoy.service")
    python, script, verb = unit["Service"]["ExecStart"].split()
    assert (python, verb) == ("/usr/bin/python3", "run")
    assert Path(script).read_bytes() == Path(boot.__file__).read_bytes()
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_other_code_than_was_submitted_is_refused(machine):
    machine.ship_stub([0])
    machine.store.put("code/it.tar.gz", tar({"convoy/launch/worker.py": b"print('stolen')"}))
    report = machine.run()
    assert report["exit_code"] == 78
    assert "its SHA-256 is another one" in report["reason"]
    assert not list(machine.home.rglob("*.py"))


def test_a_bundle_writes_nowhere_else(machine, tmp_path):
    machine.ship(tar({"../../outside.py": b""}))
    report = machine.run()
    assert (report["exit_code"], "no file of its own" in report["reason"]) == (78, True)
    assert not list(tmp_path.rglob("outside.py"))


def test_a_job_is_cancelled_through_the_bucket(machine):
    machine.ship_stub("wait")
    process = machine.start()
    machine.wait_for_worker()
    machine.store.put("jobs/p/z/rn50/3/cancel", b"")
    said = machine.end(process)
    assert machine.report()["exit_code"] == 130
    assert machine.server.nodes == {}
    assert "secret-token" not in said + machine.log() + json.dumps(machine.report())


def test_a_job_has_its_hours(machine):
    machine.ship_stub("wait")
    machine.job["until"] = time.time()
    report = machine.run()
    assert (report["exit_code"], report["reason"]) == (42, "its --hours are over; submitted again, it goes on")
    assert report["restarts"] == 0


def test_the_real_bundle_trains_digits_into_the_bucket(machine, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.py").write_text(
        "import convoy\nimport keras\n\nprint('house', convoy.__file__)\n\n\ndef build(shape, classes):\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)])\n"
    )
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    machine.ship(bundle.build("mine.net:build", "jax").data)
    run = f"{machine.bucket}/run"
    machine.job["flags"] = ["--model=mine.net:build", "--duration=20st", f"--run_dir={run}", "--backend=jax"]
    report = machine.run(seconds=150)
    assert report["exit_code"] == 0, machine.log()
    assert json.loads(open_store(run).get("result.json"))["step"] == 20
    # What ran is what was shipped, not the installation of these tests.
    assert f"house {machine.home / machine.job['sha256']}/convoy/" in machine.log()


@pytest.mark.thorough
def test_two_machines_train_together_though_one_is_switched_off_for_a_while(machine, tmp_path):
    machine.ship(bundle.build("article_cnn", "jax").data)
    run = f"{machine.bucket}/run"
    machine.job["flags"] = ["--duration=3000st", f"--run_dir={run}", "--backend=jax", "--batch_size=16"]
    port = str(free_ports(1)[0])

    def start(index):
        machine.of_two(index)
        return machine.start(CONVOY_HOME=str(tmp_path / f"machine-{index}"), CONVOY_PORT=port)

    first, second = start(0), start(1)
    deadline = time.monotonic() + 120
    while "train loss" not in machine.log():
        assert time.monotonic() < deadline, machine.log()
        time.sleep(0.2)
    second.terminate()
    machine.end(second, seconds=60)
    second = start(1)
    for process in (first, second):
        machine.end(process, seconds=240)
    assert json.loads(open_store(run).get("result.json"))["step"] == 3000
    reports = machine.report(0), machine.report(1)
    assert [report["exit_code"] for report in reports] == [0, 0], machine.log()
    assert reports[0]["restarts"] == 1
    assert machine.server.nodes == {}
