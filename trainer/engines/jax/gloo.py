"""The address under which the CPU devices of this process are reached by those of its peers.

Left alone, JAX's Gloo transport tells peers the address of the host's own name. Debian's /etc/hosts has 127.0.1.1 for that,
where a peer on another host reaches only itself: "connection refused", or an abort.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable

import jax
from jax._src import distributed, xla_bridge
from jax._src.lib import _jax
from jax.extend import backend

from convoy import exits
from convoy.trainer.processes.cluster import Cluster

_KEY = "convoy/coordinator/{}"


def advertise(cluster: Cluster, timeout_seconds: int) -> None:
    """Has Gloo listen, and be found, at the address from which this host reaches the coordinator.

    To be called between `jax.distributed.initialize` and the first use of a device, by all processes.

    Raises:
      exits.TryAgain: the coordinator's name has no address any more.
      jax.errors.JaxRuntimeError: a peer did not answer in time.
    """
    if jax.config.jax_cpu_collectives_implementation != "gloo":
        return
    client = distributed.global_state.client
    read = functools.partial(client.blocking_key_value_get, timeout_in_ms=1000 * timeout_seconds)
    address = own_address(cluster, client.key_value_set, read)

    def cpu_client() -> object:
        collectives = _jax.make_gloo_tcp_collectives(distributed_client=client, hostname=address)
        return xla_bridge.make_cpu_client(collectives)

    backend.register_backend_factory("cpu", cpu_client, priority=0, fail_quietly=False)


def own_address(cluster: Cluster, publish: Callable[[str, str], object], read: Callable[[str], str]) -> str:
    """This host's address on the way to the coordinator; loopback only if all processes are on one host.

    On the coordinator's own host that way may be loopback too, by the same line of /etc/hosts. Peers on other hosts know
    the address by which they reach it, so each process publishes that.

    Args:
      cluster: the processes.
      publish: (key, value), for all processes to read.
      read: the value of a key, once it is published.
    """
    host = cluster.coordinator.rpartition(":")[0].strip("[]")
    own, coordinator = _route(host)
    publish(_KEY.format(cluster.index), coordinator)
    if not _is_loopback(own):
        return own
    seen = (read(_KEY.format(index)) for index in range(cluster.processes))
    return next((_route(address)[0] for address in seen if not _is_loopback(address)), own)


def _route(host: str) -> tuple[str, str]:
    """(the address from which packets to a host leave, the host's own address). Nothing is sent."""
    error = OSError("it has no address")
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as any_socket:
                try:
                    any_socket.connect(address)
                except OSError as unreachable:  # an IPv6 address where there is no IPv6
                    error = unreachable
                    continue
                return any_socket.getsockname()[0], any_socket.getpeername()[0]
    except socket.gaierror as unknown:
        error = unknown
    raise exits.TryAgain(f"cannot find the way to the first process at {host} ({exits.reason(error)}); try it again.")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
