#!/usr/bin/env python3
"""What a TPU VM does: its startup script, for the Python that the VM has, with nothing but the standard library.

At every boot Google's agent runs it: it makes a service of systemd of itself. As that service it reads the job from the
instance's metadata, fetches the bundle, refuses one whose SHA-256 is another, installs what it needs, runs `launch.worker`
and starts that again after 42 and after a death by a signal. What there is to tell goes to the bucket:

    jobs/NAME/ATTEMPT/worker-N.json   phase, exit_code (of an end), restarts, reason, updated
    jobs/NAME/ATTEMPT/worker-N.log    what the worker printed, its last 4 MB
    jobs/NAME/ATTEMPT/cancel          written by `convoy launch cancel`

When all workers have ended, the first one deletes the machines; the queued resource stays, suspended, and says what it was.
No shell reads any of it. Shown against servers on the loopback interface; no real TPU VM has run it yet.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
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
UNIT = Path("/etc/systemd/system/convoy.service")
METADATA = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/instance"
STORAGE = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
TPU = os.environ.get("CONVOY_TPU_HOST", "https://tpu.googleapis.com")
TRY_AGAIN, CANNOT_RUN, STOPPED = 42, 78, 130
LOOK_SECONDS = float(os.environ.get("CONVOY_LOOK_SECONDS", "10"))
OTHERS_SECONDS = 12 * LOOK_SECONDS
LOG_BYTES = 4_000_000
UNIT_TEXT = """[Unit]
Description=A worker of a Convoy job
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/bin/python3 {script} run
Restart=on-failure
RestartSec=30
KillMode=mixed
TimeoutStopSec=120

[Install]
WantedBy=multi-user.target
"""


def ask(url, method="GET", data=None, metadata=False):
    """The body of an answer; urllib.error.HTTPError for a refusal."""
    headers = {"Metadata-Flavor": "Google"} if metadata else {"Authorization": f"Bearer {token()}"}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return answer.read()


def token():
    return json.loads(ask(f"{METADATA}/service-accounts/default/token", metadata=True))["access_token"]


def attribute(name):
    return ask(f"{METADATA}/attributes/{name}", metadata=True).decode()


def split(url):
    """gs://BUCKET/NAME -> both, quoted for a URL."""
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
    """Like `get`; None as well while the storage is away, which is no reason to end a run."""
    try:
        return get(url)
    except OSError:
        return None


def put(url, data):
    """Writes an object; that the storage is away for a while ends nothing."""
    bucket, name = split(url)
    try:
        ask(f"{STORAGE}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", "POST", data)
    except OSError as error:
        print(f"convoy: cannot write {url} now: {error}", file=sys.stderr, flush=True)


class Worker:
    """This machine's part of a job."""

    def __init__(self, job, index, hosts):
        self.job, self.index, self.hosts = job, index, hosts
        self.folder = f"{job['bucket']}/jobs/{job['name']}/{job['attempt']}"
        self.restarts, self.began, self.leaving = 0, time.monotonic(), False
        self.log = HOME / f"worker.attempt-{job['attempt']}.log"

    def tell(self, phase, exit_code=None, reason=""):
        status = {"phase": phase, "exit_code": exit_code, "restarts": self.restarts, "reason": reason}
        put(f"{self.folder}/worker-{self.index}.json", json.dumps({**status, "updated": time.time()}).encode())

    def others(self):
        """What each worker told last, or None."""
        told = [glance(f"{self.folder}/worker-{index}.json") for index in range(len(self.hosts))]
        return [json.loads(data) if data else None for data in told]

    def install(self):
        """The bundle, unpacked, and an environment with what it needs. Returns (folder, Python)."""
        sha256 = self.job["sha256"]
        folder, python = HOME / sha256, HOME / sha256 / "venv" / "bin" / "python"
        if (folder / "installed").exists():
            return folder, python
        data = get(self.job["code"]) or b""
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
        for command in self.job["install"]:
            subprocess.run([word.replace("{folder}", str(folder)) for word in command], check=True)
        (folder / "user").mkdir(exist_ok=True)
        (folder / "installed").touch()
        return folder, python

    def run(self):
        """Until the job has ended here; the exit code."""
        self.tell("installing")
        try:
            folder, python = self.install()
        except (ValueError, subprocess.CalledProcessError) as error:
            return self.end(CANNOT_RUN, str(error))
        variables = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "CONVOY_JOB": self.job["name"],
            "CONVOY_WORKERS": str(len(self.hosts)),
            "CONVOY_HOSTS": ",".join(self.hosts),
            "JOB_COMPLETION_INDEX": str(self.index),
            "CONVOY_WRITER": self.job["id"],
            "CONVOY_GRACE_SECONDS": "100",
        }
        command = [str(python), "-P", "-m", "launch.worker", "--", *self.job["flags"]]
        while True:
            variables["CONVOY_RESTART_ATTEMPT"] = str(self.job["attempt"] + self.restarts)
            with self.log.open("ab") as log:
                child = subprocess.Popen(command, cwd=folder / "user", env=variables, stdout=log, stderr=log)
            code, stopped = self.watch(child)
            if self.leaving:  # the machine goes down; the next boot goes on
                return code
            if code == 0 or stopped:
                return self.end(STOPPED if stopped else 0, stopped)
            ended = [told["exit_code"] for told in self.others() if told and told["exit_code"]]
            if not (code == TRY_AGAIN or code >= 128) or ended or self.restarts >= self.job["max_restarts"]:
                return self.end(ended[0] if ended and code == TRY_AGAIN else code)
            self.restarts += 1

    def watch(self, child):
        """Tells how it goes until the child ends. Returns (exit code, why it was stopped, if it was)."""

        def leave(number, _frame):
            self.leaving = True
            child.send_signal(number)

        signal.signal(signal.SIGTERM, leave)
        stopped = ""
        while True:
            self.tell("running")
            put(f"{self.folder}/worker-{self.index}.log", self.tail())
            if not stopped:
                if time.monotonic() - self.began > self.job["seconds"]:
                    stopped = "its --hours are over"
                elif glance(f"{self.folder}/cancel") is not None:
                    stopped = "cancelled"
                if stopped:
                    child.send_signal(signal.SIGINT)
            try:
                code = child.wait(LOOK_SECONDS)
                return (code if code >= 0 else 128 - code), stopped
            except subprocess.TimeoutExpired:
                continue

    def tail(self):
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_BYTES))
            return file.read()

    def end(self, code, reason=""):
        """The last word, and, of the first worker once all have had theirs, the end of the machines."""
        if self.log.exists():
            put(f"{self.folder}/worker-{self.index}.log", self.tail())
        self.tell("ended", code, reason)
        if self.index == 0:
            deadline = time.monotonic() + OTHERS_SECONDS
            while time.monotonic() < deadline and not all(told and told["phase"] == "ended" for told in self.others()):
                time.sleep(LOOK_SECONDS)
            try:
                ask(f"{TPU}/v2/{self.job['node']}", "DELETE")
            except OSError as error:
                reason = f"{reason} its machines could not be deleted ({error}): `convoy launch gc` does it".strip()
                self.tell("ended", code, reason)
        return code


def install_service():
    """Makes a service of this very file, and starts it."""
    HOME.mkdir(parents=True, exist_ok=True)
    script = HOME / "tpu_vm_boot.py"
    script.write_bytes(Path(__file__).read_bytes())
    UNIT.write_text(UNIT_TEXT.format(script=script))
    for words in (["daemon-reload"], ["enable", "convoy"], ["restart", "--no-block", "convoy"]):
        subprocess.run(["systemctl", *words], check=True)


def main():
    if sys.argv[1:] != ["run"]:
        return install_service()
    job = json.loads(attribute("convoy-job"))
    # As JAX reads them on Cloud TPU: NAME, or NAME:ID:ADDRESS, of each machine of the slice, and the number of this one.
    hosts = [told.split(":")[-1] for told in attribute("worker-network-endpoints").split(",")]
    HOME.mkdir(parents=True, exist_ok=True)
    worker = Worker(job, int(attribute("agent-worker-number")), hosts)
    told = get(f"{worker.folder}/worker-{worker.index}.json")
    if not (told and json.loads(told)["phase"] == "ended"):  # else this is a boot after the end
        worker.run()
    return None


if __name__ == "__main__":
    main()
