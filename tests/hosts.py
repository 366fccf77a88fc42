"""Hosts on one machine: each has a network, a name and an /etc/hosts of its own, and a cable to one switch.

Namespaces of Linux, made by root with `ip` and `unshare` (iproute2, util-linux). They end with this process, whatever ends it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_TOOLS = ("ip", "nsenter", "unshare")
# A process that keeps namespaces alive until its stdin closes, as it does when we end.
_KEEP = 'hostname "$1"; mount --bind "$2" /etc/hosts; echo ready; exec cat'
_HOSTS = "127.0.0.1 localhost\n127.0.1.1 {}\n"  # as Debian's installer writes it: a host's own name leads nowhere else
_SUBNET = "198.18.0.{}"  # RFC 2544: for measurements, on no real network


class Host:
    """One host.

    Attributes:
      name: of the host, which its /etc/hosts takes for loopback and the others' for its address.
      address: on the network of all hosts.
    """

    def __init__(self, name: str, address: str, pid: int):
        self.name, self.address, self._pid = name, address, pid

    def command(self, argv: Sequence[object], cwd: Path | str = ".") -> list[str]:
        """The command that runs `argv` on this host, in a folder."""
        enter = ["nsenter", f"--target={self._pid}", "--net", "--uts", "--mount"]
        return [*enter, "env", f"--chdir={os.path.abspath(cwd)}", *map(str, argv)]


def refused() -> str:
    """Why no hosts can be made here, as a clause; empty if they can."""
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        return f"there is no {missing[0]} here"
    if os.geteuid():
        return "only root makes network namespaces with cables between them"
    done = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


@contextlib.contextmanager
def network(count: int) -> Iterator[tuple[list[Host], list[str]]]:
    """So many hosts, and a command that runs another at their switch, whose ports are called port0, port1, ..."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = [f"host{index}" for index in range(count)]
        addresses = [_SUBNET.format(index + 1) for index in range(count)]
        switch, *pids = (
            stack.enter_context(_kept(name, folder, dict(zip(names, addresses, strict=True))))
            for name in ["switch", *names]
        )
        at_switch = ["nsenter", f"--target={switch}", "--net"]
        _run(at_switch, "ip link add bridge type bridge")
        _run(at_switch, "ip link set bridge up")
        hosts = [Host(*place) for place in zip(names, addresses, pids, strict=True)]
        for index, host in enumerate(hosts):
            _run(at_switch, f"ip link add port{index} type veth peer name eth0 netns {pids[index]}")
            _run(at_switch, f"ip link set port{index} master bridge up")
            for words in ("link set lo up", f"address add {host.address}/24 dev eth0", "link set eth0 up"):
                _run(host.command(["ip"]), words)
        yield hosts, at_switch


@contextlib.contextmanager
def _kept(name: str, folder: Path, known: dict[str, str]) -> Iterator[int]:
    """The process that keeps one host's namespaces."""
    lines = [f"{address} {other}\n" for other, address in known.items() if other != name]
    file = folder / name
    file.write_text(_HOSTS.format(name) + "".join(lines))
    argv = ["unshare", "--net", "--uts", "--mount", "sh", "-ec", _KEEP, "sh", name, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{name} could not be made"
        yield process.pid


def _run(prefix: Sequence[str], words: str) -> None:
    subprocess.run([*prefix, *words.split()], check=True)
