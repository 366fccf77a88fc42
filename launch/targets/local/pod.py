"""What stands in for a pod on this machine: the command and the environment of a worker that is rehearsed.

Both are taken from the documents that a cluster would get (kubernetes/manifest.py). What differs: hosts are 127.0.0.1, so their
ports differ; the interpreter is this one; HOME, in a pod a folder of the container, stays this user's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import socket
import sys
from collections.abc import Iterable

from convoy import accelerators, chaos, exits, supervise
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.documents import Object, job_spec
from convoy.launch.targets.local import faults as chaotic
from convoy.launch.targets.local.faults import Faults

# What of the submitting shell's environment is another run's, or would make every attempt fail.
_OTHERS = (
    "TF_CONFIG",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_COORDINATOR_BIND_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "TPU_WORKER_ID",
    "TPU_WORKER_HOSTNAMES",
    chaos.VARIABLE,
    supervise.PARENT_PIPE,
)
# A cluster's patience would make a rehearsed loss of a name take minutes.
_REHEARSED_DNS_SECONDS = "10"
# Below those that Linux deals to connections: a worker takes its port seconds after it was found free.
_PORTS = range(20000, 32768)


def command(spec: JobSpec) -> list[str]:
    """What each worker runs: the pod's command with this interpreter."""
    return [sys.executable, *map(_read, _container(spec)["command"][1:])]


def _container(spec: JobSpec) -> Object:
    """Of a pod of this job, as it is rendered."""
    # What runs in it does not depend on the machine, which may be one that Kubernetes has no nodes of.
    options = dataclasses.replace(spec.options, accelerator="cpu", topology="", image=spec.options.image or "none")
    *_, owner = manifest.render(dataclasses.replace(spec, options=options, accelerator=accelerators.CPU))
    (container,) = job_spec(owner)["template"]["spec"]["containers"]
    return container


def _read(text: str) -> str:
    """A word of a command or variable as Kubernetes reads it: $$ is a dollar."""
    return text.replace("$$", "$")


def environments(spec: JobSpec, attempt: int, ports: Iterable[object], faults: Faults) -> list[dict[str, str]]:
    """What each worker finds in its environment beside what it inherits."""
    shared = {
        one["name"]: _read(one["value"]) for one in _container(spec)["env"] if "value" in one and one["name"] != "HOME"
    }
    hosts = [f"127.0.0.1:{port}" for port in ports]
    faults = faults if attempt == 0 else Faults({}, frozenset())
    found = []
    for worker in range(spec.workers):
        # That domain is reserved for names that never resolve.
        seen = [
            f"worker-{other}.invalid:{host.rpartition(':')[2]}" if other in faults.lost - {worker} else host
            for other, host in enumerate(hosts)
        ]
        found.append(
            shared
            | {
                "CONVOY_HOSTS": ",".join(seen),
                "JOB_COMPLETION_INDEX": str(worker),
                "CONVOY_RESTART_ATTEMPT": str(attempt),
            }
            | chaotic.environment(faults, worker)
        )
        if faults.lost and "CONVOY_DNS_SECONDS" not in os.environ:
            found[-1]["CONVOY_DNS_SECONDS"] = _REHEARSED_DNS_SECONDS
    return found


def inherited() -> dict[str, str]:
    """Of the environment of this process, what a worker keeps."""
    return {name: value for name, value in os.environ.items() if name not in _OTHERS}


def free_ports(count: int) -> list[int]:
    """Ports that nobody has; TryAgain if there are not so many."""
    found: list[int] = []
    with contextlib.ExitStack() as sockets:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                return found
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.socket()).bind(("", port))  # all addresses, as TensorFlow's servers
                found.append(port)
    raise exits.TryAgain(f"{count} ports of {_PORTS.start} to {_PORTS.stop} are wanted, and fewer are free.")
