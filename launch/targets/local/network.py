"""A private network for a rehearsal: nobody else can reach the ports on which its workers listen.

TensorFlow's server listens on all addresses, and cannot be told otherwise. So the supervising process of a job moves into a
network namespace that has only the loopback interface, and its workers inherit it. It does so where Linux allows it and the
run needs no other network. JAX's coordinator and collectives listen on loopback by themselves when all workers are here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

from convoy.launch.job import JobSpec
from convoy.trainer.models.names import is_users_own

_CLONE_NEWUTS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x04000000, 0x10000000, 0x40000000  # linux/sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_INTERFACE = struct.Struct("16sh22x")  # struct ifreq with flags
_HOST = "127.0.0.1"
# Variables that name servers which a run asks.
_SERVERS = ("STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST", "GCE_METADATA_IP")
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def decide(spec: JobSpec, environment: Mapping[str, str] = os.environ) -> tuple[bool, str]:
    """(whether a job's workers get a private network, a sentence if others can reach their ports).

    To be called by the supervising process before it starts threads.
    """
    if spec.workers == 1:  # a single worker listens on nothing
        return False, ""
    why = needs_network(spec, environment) or refused()
    if not why:
        return True, ""
    if spec.run.backend == "jax":
        return False, ""
    return False, (
        f"the network reaches the ports of {spec.name}'s workers, on all addresses of this machine: they have no network of"
        f" their own, since {why}."
    )


def needs_network(spec: JobSpec, environment: Mapping[str, str] = os.environ) -> str:
    """Why a run may need other machines, as a clause; empty if it does not. If in doubt, it does."""
    for flag in spec.train_flags:
        if "://" in flag:
            return f"{flag} is reached over one"
    data, model = spec.run.data, spec.run.model
    if data.dataset_spec.source.downloads:
        return f"--dataset={data.dataset} may have to be downloaded"
    if is_users_own(model):
        return f"--model={model} may download weights"
    if variables := [name for name in _SERVERS if environment.get(name)]:
        return f"{variables[0]} names a server"
    if "://" in environment.get(_CACHE, ""):
        return f"{_CACHE} is reached over one"
    return ""


def refused() -> str:
    """Why this system gives no private network, as a clause; empty if it does. Tried in a child that ends at once."""
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
    """Moves this process, which must have one thread, and its later children into a private network; OSError if it may not."""
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET | _CLONE_NEWUTS)
    except PermissionError:
        if not user:  # root in a container: mapped to one user, it could no longer read other users' files
            raise
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWUTS)
        for name, text in ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1"):
            Path("/proc/self", name).write_text(text)
    socket.sethostname(_HOST)  # which resolves without any file, for whoever looks this host up
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        flags = _INTERFACE.unpack(request)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))


def _unshare(flags: int) -> None:
    assert _libc is not None
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
