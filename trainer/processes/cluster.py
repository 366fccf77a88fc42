"""The processes that share a run, as the environment names them. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from collections.abc import Mapping

from convoy import exits

_JAX = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """This process among those of a run. The first one leads: it alone writes to the run directory."""

    index: int = 0
    processes: int = 1
    coordinator: str = ""  # host:port of the first
    bind: str = ""  # host:port on which JAX's coordinator listens; empty: that port on all addresses

    @property
    def is_leader(self) -> bool:
        return self.index == 0


def from_environment(backend: str, environment: Mapping[str, str] = os.environ) -> Cluster:
    """TF_CONFIG for TensorFlow, JAX's three variables for JAX; one process where they are not set."""
    return _tf_config(environment.get("TF_CONFIG", "")) if backend == "tensorflow" else _jax(environment)


def _tf_config(text: str) -> Cluster:
    if not text.strip():
        return Cluster()
    try:
        config = json.loads(text)
        if not config:
            return Cluster()
        cluster, kind, index = config["cluster"], config["task"]["type"], int(config["task"]["index"])
        addresses = [(name, number) for name in ("chief", "worker") for number in range(len(cluster.get(name, [])))]
        hosts = [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise exits.CannotRun(
            f"TF_CONFIG is not a cluster and a task ({type(error).__name__}: {error}); it looks like"
            ' {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        ) from error
    if other := sorted(set(cluster) - {"chief", "worker"}):
        raise exits.CannotRun(
            f"TF_CONFIG names {other[0]} tasks, which Convoy does not have; list all hosts as workers."
        )
    if (kind, index) not in addresses:
        raise exits.CannotRun(
            f"TF_CONFIG says that this is {kind} {index}, which its cluster does not list; correct one."
        )
    return Cluster(addresses.index((kind, index)), len(hosts), str(hosts[0]))


def _jax(environment: Mapping[str, str]) -> Cluster:
    values = {name: environment.get(name, "") for name in _JAX}
    if not any(values.values()):
        return Cluster()
    if missing := [name for name, value in values.items() if not value]:
        raise exits.CannotRun(f"{missing[0]} is not set, but others of {', '.join(_JAX)} are; set all three or none.")
    try:
        processes, index = int(values["JAX_NUM_PROCESSES"]), int(values["JAX_PROCESS_ID"])
    except ValueError as error:
        raise exits.CannotRun(f"JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers ({error}).") from error
    if not 0 <= index < processes:
        raise exits.CannotRun(f"JAX_PROCESS_ID={index} is not among JAX_NUM_PROCESSES={processes}, counted from 0.")
    coordinator = values["JAX_COORDINATOR_ADDRESS"]
    bind = environment.get("JAX_COORDINATOR_BIND_ADDRESS", "") or (coordinator if _is_loopback(coordinator) else "")
    return Cluster(index, processes, coordinator, bind)


def _is_loopback(address: str) -> bool:
    """Whether only this machine reaches host:port."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
