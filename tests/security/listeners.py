"""Addresses that processes of this machine listen on, read from the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from pathlib import Path

_LISTENS = "0A"  # include/net/tcp_states.h


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    family, generation = set(), {pid} & parents.keys()
    while generation:
        family |= generation
        generation = {child for child, parent in parents.items() if parent in generation} - family
    return family


def addresses(pid: int) -> set[str]:
    """Addresses on which a process listens, in its own network."""
    own = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(os.readlink(entry))
    listening = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                if state == _LISTENS and f"socket:[{inode}]" in own:
                    listening.add(_address(local.partition(":")[0]))
    return listening


def _address(text: str) -> str:
    words = bytes.fromhex(text)
    data = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))  # each word in this machine's order
    address = ipaddress.ip_address(data)
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def network(pid: int | str = "self") -> str:
    """Identifies the network of a process."""
    return os.readlink(f"/proc/{pid}/ns/net")


def interfaces(pid: int) -> set[str]:
    """Interfaces of the network of a process."""
    return {line.partition(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]}
