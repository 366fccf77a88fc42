#!/usr/bin/env python3
"""What a TPU VM does: its startup script, for the Python that the VM has, with nothing but the standard library.

Google's agent runs it at every boot, and it makes itself a service of systemd. As that service it reads the job from the
instance's metadata and fetches the bundle, which must have the SHA-256 of the job. It installs the dependencies and
runs `convoy.launch.worker`, which it starts again after exit codes that are worth it. It reports below the job's folder:

    ATTEMPT/worker-N.json   phase, exit_code (of an end), restarts, reason, updated
    ATTEMPT/worker-N.log    the output of the installation and the worker, its last 4 MB
    ATTEMPT/cancel          written by `convoy launch cancel`

When all workers have ended, the first deletes the machines; the queued resource stays, suspended, and names the job. A machine
that achieves nothing for half an hour, because it may not read its code for example, deletes them too. The service exits 0 once
a job has ended, so systemd restarts it only if this script itself failed. No shell reads any of it. Tested against servers on
the loopback interface; no real TPU VM has run it yet.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HOME = Path(os.environ.get("CONVOY_HOME", "/var/lib/convoy"))
ALIVE = HOME / "alive"  # its modification time is when a worker was last seen running
UNIT = Path("/etc/systemd/system/convoy.service")
METADATA = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/instance"
STORAGE = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
TPU = os.environ.get("CONVOY_TPU_HOST", "https://tpu.googleapis.com")
TRY_AGAIN, CANNOT_RUN, STOPPED = 42, 78, 130
LOOK_SECONDS = float(os.environ.get("CONVOY_LOOK_SECONDS", "10"))
OTHERS_SECONDS = 12 * LOOK_SECONDS
REPORT_SECONDS = 60.0
PHASES = ("installing", "running", "ended")
INSTALL_SECONDS = 900  # for one try of one line
INSTALL_TRIES = 3
PATIENCE_SECONDS = float(os.environ.get("CONVOY_PATIENCE_SECONDS", "1800"))
LOG_BYTES = 4_000_000
SENTENCE = "convoy: "  # begins what convoy/exits.py prints at an end
UNIT_TEXT = """[Unit]
Description=A worker of a Convoy job
After=network-online.target
Wants=network-online.target

[Service]
Environment=HOME=/root
ExecStart=/usr/bin/python3 {script} run
Restart=on-failure
RestartSec=30
KillMode=mixed
TimeoutStopSec=120

[Install]
WantedBy=multi-user.target
"""


def ask(url, method="GET", data=None, metadata=False):
    """The body of an answer; raises urllib.error.HTTPError for a refusal."""
    headers = {"Metadata-Flavor": "Google"} if metadata else {"Authorization": f"Bearer {token()}"}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return answer.read()


def token():
    return json.loads(ask(f"{METADATA}/service-accounts/default/token", metadata=True))["access_token"]


def attribute(name):
    return ask(f"{METADATA}/attributes/{name}", metadata=True).decode()


def split(url):
    """gs://BUCKET/NAME -> (bucket, name quoted for a URL)."""
    bucket, _, name = url[len("gs://") :].partition("/")
    return bucket, urllib.parse.quote(name, safe="")


def get(url):
    """An object's bytes; None if there is none."""
    bucket, name = split(url)
    try:
        return ask(f"{STORAGE}/storage/v1/b/{bucket}/o/{name}?alt=media")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def glance(url):
    """As `get`, but None while the storage does not answer, since that is no reason to end a run."""
    try:
        return get(url)
    except OSError:
        return None


def put(url, data):
    """Writes an object; returns whether that succeeded. An outage of the storage must not end a run."""
    bucket, name = split(url)
    try:
        ask(f"{STORAGE}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", "POST", data)
    except OSError as error:
        print(f"convoy: cannot write {url} now: {error}", file=sys.stderr, flush=True)
        return False
    return True


def status_of(data):
    """A worker's report; None for anything else, which others who may write to the bucket may have put there."""
    try:
        report = json.loads(data)
        fits = (
            report["phase"] in PHASES
            and _is_count(report["restarts"], 1 << 31)
            and (report["exit_code"] is None or _is_count(report["exit_code"], 255))
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return report if fits else None


def worth_restarting(code):
    """The rule of convoy/exits.py, which this script cannot import: a test compares the two."""
    return code == TRY_AGAIN or (code >= 128 and code != STOPPED)


def _is_count(value, limit):
    return type(value) is int and 0 <= value <= limit


def delete_machines(job):
    """Deletes all machines of the slice, this one among them; after refusals for a minute, returns a sentence."""
    refused = ""
    for _ in range(6):
        try:
            ask(f"{TPU}/v2/{job['node']}", "DELETE")
            return ""
        except OSError as error:
            if getattr(error, "code", None) == 404:
                return ""
            refused = f"its machines could not be deleted ({error}): `convoy launch gc` does it"
            time.sleep(LOOK_SECONDS)
    return refused


class Worker:
    """This machine's part of a job."""

    def __init__(self, job, index, hosts):
        self.job = job
        self.index = index
        self.hosts = hosts
        self.folder = f"{job['bucket']}/{job['folder']}/{job['attempt']}"
        self.log = HOME / f"worker.attempt-{job['attempt']}.log"
        self.restarts = 0
        self.child = None
        self.leaving = False
        # In the bucket: the last report and when it was written, and the size of the last log.
        self.reported = None
        self.reported_at = 0.0
        self.log_size = 0

    def before(self):
        """The report that this machine wrote before it was switched off; None at its first boot."""
        data = get(f"{self.folder}/worker-{self.index}.json")
        return status_of(data) if data else None

    def report(self, phase, exit_code=None, reason=""):
        """Writes the log if it has grown, and the report if it has changed or is a minute old; whether both succeeded."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size != self.log_size and put(f"{self.folder}/worker-{self.index}.log", self.tail()):
            self.log_size = size
        status = {"phase": phase, "exit_code": exit_code, "restarts": self.restarts, "reason": reason}
        if status != self.reported or time.monotonic() - self.reported_at > REPORT_SECONDS:
            data = json.dumps({**status, "updated": time.time()}).encode()
            if put(f"{self.folder}/worker-{self.index}.json", data):
                self.reported = status
                self.reported_at = time.monotonic()
        return self.reported == status and self.log_size == size

    def tail(self):
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_BYTES))
            return file.read()

    def why(self):
        """The last sentence that the worker printed, which says why it ended; empty if there is none."""
        lines = self.tail().decode(errors="replace").splitlines() if self.log.exists() else []
        return next((line[len(SENTENCE) :] for line in reversed(lines) if line.startswith(SENTENCE)), "")

    def others(self):
        """The last report of each worker, or None."""
        reports = [glance(f"{self.folder}/worker-{index}.json") for index in range(len(self.hosts))]
        return [status_of(data) if data else None for data in reports]

    def install(self):
        """Unpacks the bundle and creates its environment. Returns (folder, Python).

        Raises ValueError, a sentence, for a permanent failure.
        """
        sha256 = self.job["sha256"]
        folder = HOME / sha256
        python = folder / "venv" / "bin" / "python"
        if (folder / "installed").exists():
            return folder, python
        data = get(self.job["code"])
        if data is None:
            raise ValueError(f"there is no {self.job['code']}: its code was removed")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{self.job['code']} is not the code that was submitted: its SHA-256 is another one")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                path = folder / entry.name
                if not entry.isfile() or folder.resolve() not in path.resolve().parents:
                    raise ValueError(f"{self.job['code']} has {entry.name}, which is no file of its own")
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(entry)
                assert content is not None
                path.write_bytes(content.read())
        for line in self.job["install"]:
            self.install_line([word.replace("{folder}", str(folder)) for word in line])
        (folder / "user").mkdir(exist_ok=True)
        (folder / "installed").touch()
        return folder, python

    def install_line(self, words):
        for tries_left in reversed(range(INSTALL_TRIES)):  # a package index may be away for a moment
            with self.log.open("ab") as log:
                try:
                    done = subprocess.run(
                        words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=INSTALL_SECONDS, check=False
                    )
                    why = f"exit code {done.returncode}"
                except (OSError, subprocess.TimeoutExpired) as error:
                    why = str(error)
            if why == "exit code 0":
                return
            if tries_left:
                time.sleep(3 * LOOK_SECONDS)
        raise ValueError(f"installing failed, {why}, which `convoy launch logs` has more of: {shlex.join(words)}")

    def run(self):
        """Runs the worker until the job has ended here, or the machine is switched off."""
        self.report("installing")
        try:
            folder, python = self.install()
        except ValueError as error:
            return self.end(CANNOT_RUN, str(error))

        def leave(number, _frame):  # the machine is switched off; the next boot continues
            self.leaving = True
            if self.child is not None:
                self.child.send_signal(number)

        signal.signal(signal.SIGTERM, leave)
        variables = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "CONVOY_JOB": self.job["name"],
            "CONVOY_WORKERS": str(self.job["workers"]),
            "CONVOY_HOSTS": ",".join(self.hosts),
            "JOB_COMPLETION_INDEX": str(self.index),
            "CONVOY_WRITER": self.job["id"],
            "CONVOY_GRACE_SECONDS": "100",
        }
        command = [str(python), "-P", "-m", "convoy.launch.worker", "--", *self.job["flags"]]
        while not self.leaving:
            variables["CONVOY_RESTART_ATTEMPT"] = str(self.job["attempt"] + self.restarts)
            with self.log.open("ab") as log:
                self.child = subprocess.Popen(
                    command, cwd=folder / "user", env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if self.leaving:  # the signal came before the child was known
                self.child.send_signal(signal.SIGTERM)
            code, stopped = self.watch(self.child)
            if self.leaving:
                return None
            if code == 0 or stopped:
                return self.end(*(stopped if code else (0,)))
            others = self.others()
            ended = [report["exit_code"] for report in others if report and report["phase"] == "ended"]
            failed = next(filter(None, ended), 0)
            if not worth_restarting(code) or failed or self.restarts >= self.job["max_restarts"]:
                return self.end(failed if failed and code == TRY_AGAIN else code)
            first = others[0]
            if first and first["phase"] == "ended":  # with 0: the run is complete, and its result written
                return self.end(0)
            self.restarts += 1
            time.sleep(LOOK_SECONDS)  # so that its peers notice, and all restarts are not spent in a minute
        return None

    def watch(self, child):
        """Reports until the child ends. Returns (its exit code, None or the end that was requested: code, reason)."""
        stopped = None
        while True:
            self.report("running")
            ALIVE.touch()
            if stopped is None:
                if glance(f"{self.folder}/cancel") is not None:
                    stopped = STOPPED, "cancelled"
                    child.send_signal(signal.SIGINT)
                elif time.time() > self.job["until"]:
                    stopped = TRY_AGAIN, "its --hours are over; submitted again, it goes on"
                    child.send_signal(signal.SIGTERM)
            try:
                code = child.wait(LOOK_SECONDS)
                return (code if code >= 0 else 128 - code), stopped
            except subprocess.TimeoutExpired:
                continue

    def end(self, code, reason=""):
        """Writes the last report; the first worker then waits for those of the others and deletes the machines."""
        reason = reason or (code and self.why()) or ""
        deadline = time.monotonic() + OTHERS_SECONDS
        while not self.report("ended", code, reason) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if self.index == 0:
            deadline = time.monotonic() + OTHERS_SECONDS
            while time.monotonic() < deadline and not all(
                report and report["phase"] == "ended" for report in self.others()
            ):
                time.sleep(LOOK_SECONDS)
            if refused := delete_machines(self.job):
                self.report("ended", code, f"{reason} {refused}".strip())


def install_service():
    """Installs this file as a service, and starts it unless it runs."""
    HOME.mkdir(parents=True, exist_ok=True)
    script = HOME / "tpu_vm_boot.py"
    script.write_bytes(Path(__file__).read_bytes())
    UNIT.write_text(UNIT_TEXT.format(script=script))
    for words in (["daemon-reload"], ["enable", "convoy"], ["start", "--no-block", "convoy"]):
        subprocess.run(["systemctl", *words], check=True)


def work(job):
    """Runs this machine's part of a job, from where an earlier boot left it."""
    index = 0
    hosts = ["localhost"]
    if job["workers"] > 1:
        # As JAX reads them on Cloud TPU: NAME, or NAME:ID:ADDRESS, of each machine of the slice, and the index of this one.
        hosts = [endpoint.split(":")[-1] for endpoint in attribute("worker-network-endpoints").split(",")]
        index = int(attribute("agent-worker-number"))
    worker = Worker(job, index, hosts)
    report = worker.before()
    if report is None or report["phase"] != "ended":
        worker.restarts = report["restarts"] if report else 0
        worker.run()
    elif index == 0:  # switched off between its last report and the end of the machines
        delete_machines(job)


def main():
    if sys.argv[1:] != ["run"]:
        install_service()
        return
    HOME.mkdir(parents=True, exist_ok=True)
    job = json.loads(attribute("convoy-job"))
    try:
        work(job)
    except Exception:
        # systemd restarts it, unless for too long no worker has run, since the boot or since the last one.
        booted = time.time() - time.monotonic()
        since = max(booted, ALIVE.stat().st_mtime if ALIVE.exists() else 0)
        if time.time() - since > PATIENCE_SECONDS:
            print(f"convoy: given up. {delete_machines(job)}", file=sys.stderr, flush=True)
        raise


if __name__ == "__main__":
    main()
