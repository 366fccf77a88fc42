"""A network of a rehearsal's own: what its workers listen on, nobody else reaches.

TensorFlow's server listens on all addresses, JAX's collectives on the CPU on the address of the host's name, and neither can be
told otherwise. So the supervising process of a job moves, with all workers to come, into a network namespace that has the
loopback interface alone, where Linux allows that and the run needs no other network.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

from convoy.launch.job import JobSpec

_CLONE_NEWUTS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x04000000, 0x10000000, 0x40000000  # linux/sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_INTERFACE = struct.Struct("16sh22x")  # struct ifreq with flags
_HOST = "127.0.0.1"
# They name servers that a run asks.
_SERVERS = ("STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST", "GCE_METADATA_IP")
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def decide(spec: JobSpec, environment: Mapping[str, str] = os.environ) -> tuple[bool, str]:
    """(whether a job's workers get a network of their own, a sentence if others reach their ports).

    For the supervising process before it has threads.
    """
    if spec.workers == 1:  # which listens on nothing
        return False, ""
    why = needs_network(spec, environment) or refused()
    if not why:
        return True, ""
    addresses = _gloo_addresses() if spec.run.backend == "jax" else "all addresses of this machine"
    if not addresses:
        return False, ""
    return False, (
        f"the network reaches the ports of {spec.name}'s workers, on {addresses}: they have no network of their own, since"
        f" {why}."
    )


def needs_network(spec: JobSpec, environment: Mapping[str, str] = os.environ) -> str:
    """Why a run may need more than this machine, as a clause; empty if it does not. In doubt it does."""
    for flag in spec.train_flags:
        if "://" in flag:
            return f"{flag} is reached over one"
    data, model = spec.run.data, spec.run.model
    if data.dataset_spec.source.downloads:
        return f"--dataset={data.dataset} may have to be downloaded"
    if ":" in model:
        return f"--model={model} may download weights"
    if named := [name for name in _SERVERS if environment.get(name)]:
        return f"{named[0]} names a server"
    if "://" in environment.get(_CACHE, ""):
        return f"{_CACHE} is reached over one"
    return ""


def refused() -> str:
    """Why this system gives no network of one's own, as a clause; empty if it does. Tried in a process that ends at once."""
    if _libc is None:
        return "this system has no network namespaces"
    child = os.fork()
    if not child:
        code = 255
        try:
            enter()
            code = 0
        except OSError as error:
            code = min(error.errno or 255, 255)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"the kernel refuses one ({os.strerror(code).lower()})" if code else ""


def enter() -> None:
    """Moves this process, which has one thread, and its later children into a network of their own. OSError if it may not."""
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET | _CLONE_NEWUTS)
    except PermissionError:
        if not user:  # root in a container; with one user left, it could read no other's files any more
            raise
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWUTS)
        for name, text in ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1"):
            Path("/proc/self", name).write_text(text)
    socket.sethostname(_HOST)  # which JAX's collectives look up, and which resolves without any file
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        flags = _INTERFACE.unpack(request)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))


def _unshare(flags: int) -> None:
    assert _libc is not None
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _gloo_addresses() -> str:
    """Those of this host's name, but loopback."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return ""
    return ", ".join(sorted(one for one in found if not ipaddress.ip_address(one.partition("%")[0]).is_loopback))
