"""The stand-in for a pod on this machine: command and environment of a rehearsed worker.

Both are read from the documents that a cluster would get (kubernetes/manifest.py). Three things differ. All
hosts are 127.0.0.1, with a port for each. The interpreter is this one. HOME stays this user's; in a pod it is a folder of the
container.
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

# Variables of the submitting shell that belong to another run, or would make every attempt fail.
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
# With a cluster's timeout a rehearsed loss of a name would take minutes.
_REHEARSED_DNS_SECONDS = "10"
# Below the ports that Linux gives to connections: a worker takes its port seconds after it was found free.
_PORTS = range(20000, 32768)


def command(spec: JobSpec) -> list[str]:
    """The command of each worker: the pod's, with this interpreter."""
    return [sys.executable, *map(_read, _container(spec)["command"][1:])]


def _container(spec: JobSpec) -> Object:
    """The container of a pod of this job, as it is rendered."""
    # Its command does not depend on the accelerator, and Kubernetes may have no nodes with it.
    options = dataclasses.replace(spec.options, accelerator="cpu", topology="", image=spec.options.image or "none")
    *_, owner = manifest.render(dataclasses.replace(spec, options=options, accelerator=accelerators.CPU))
    (container,) = job_spec(owner)["template"]["spec"]["containers"]
    return container


def _read(text: str) -> str:
    """A word of a command or variable as Kubernetes reads it: $$ is a dollar."""
    return text.replace("$$", "$")


def environments(spec: JobSpec, attempt: int, ports: Iterable[object], faults: Faults) -> list[dict[str, str]]:
    """The variables of each worker beside those that it inherits."""
    shared = {
        variable["name"]: _read(variable["value"])
        for variable in _container(spec)["env"]
        if "value" in variable and variable["name"] != "HOME"
    }
    hosts = [f"127.0.0.1:{port}" for port in ports]
    faults = faults if attempt == 0 else Faults({}, frozenset())
    workers = []
    for worker in range(spec.workers):
        # Names in the domain .invalid never resolve.
        reachable = [
            f"worker-{other}.invalid:{host.rpartition(':')[2]}" if other in faults.lost - {worker} else host
            for other, host in enumerate(hosts)
        ]
        workers.append(
            shared
            | {
                "CONVOY_HOSTS": ",".join(reachable),
                "JOB_COMPLETION_INDEX": str(worker),
                "CONVOY_RESTART_ATTEMPT": str(attempt),
            }
            | chaotic.environment(faults, worker)
        )
        if faults.lost and "CONVOY_DNS_SECONDS" not in os.environ:
            workers[-1]["CONVOY_DNS_SECONDS"] = _REHEARSED_DNS_SECONDS
    return workers


def inherited() -> dict[str, str]:
    """The variables of this process that a worker inherits."""
    return {name: value for name, value in os.environ.items() if name not in _OTHERS}


def free_ports(count: int) -> list[int]:
    """`count` free ports; TryAgain if there are fewer."""
    ports: list[int] = []
    with contextlib.ExitStack() as sockets:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(ports) == count:
                return ports
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.socket()).bind(("", port))  # all addresses, as TensorFlow's servers
                ports.append(port)
    raise exits.TryAgain(f"{count} ports of {_PORTS.start} to {_PORTS.stop} are wanted, and fewer are free.")
