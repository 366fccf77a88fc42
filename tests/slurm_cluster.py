"""A cluster of real Slurm on this machine: slurmctld, a slurmd for each node, and munged, all in a folder of their own.

Nothing of it needs root but the installation of the packages slurm-wlm and munge. All nodes are this machine: a worker finds
its peers by CONVOY_ONE_HOST, which the nodes set. Seconds are shorter than a site's: a requeued job begins again after 6 s
instead of 121 s.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from convoy.launch.targets.local.pod import free_ports
from convoy.launch.targets.slurm import step
from support import REPOSITORY

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
CONFIGURATION = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/m/s,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
SlurmdTimeout=10
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
TaskProlog={folder}/prolog
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=10 State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 Gres=gpu:8 State=UNKNOWN"


def missing() -> str:
    """Why no cluster can be started here, as a clause; empty if one can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if lacking:
        return f"{lacking[0]} is not installed here (Debian: slurm-wlm and munge)"
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return "this user has no name, without which Slurm starts no job"
    return ""


class Cluster:
    """A running cluster. `variables` are those by which Slurm's commands find it."""

    def __init__(self, folder: Path, nodes: int = 2, kill_wait: int = 20):
        self.folder = folder
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.kill_wait = kill_wait

    def start(self) -> None:
        for name in ("state", "m"):
            (self.folder / name).mkdir()
        (self.folder / "m").chmod(0o755)  # munge wants x for all there
        key = self.folder / "m" / "key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        host = socket.gethostname().partition(".")[0]
        controller, *ports = free_ports(1 + len(self.nodes))
        nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(self.nodes, ports, strict=True)]
        values = {
            "name": "t", "host": host, "controller": controller, "folder": self.folder,
            "user": pwd.getpwuid(os.getuid()).pw_name, "kill_wait": self.kill_wait, "nodes": "\n".join(nodes),
        }  # fmt: skip
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
        # Devices that exist everywhere stand for GPUs: they are counted, and nobody opens them.
        gpus = "File=/dev/tty[1-8]" if Path("/dev/tty8").exists() else "Count=8"
        (self.folder / "gres.conf").write_text(f"Name=gpu {gpus}\n")
        # What a site's nodes know: here that they are one machine, and where Convoy is.
        prolog = self.folder / "prolog"
        prolog.write_text(f"#!/bin/sh\necho export {step.ONE_HOST}=127.0.0.1\necho export PYTHONPATH={REPOSITORY}\n")
        prolog.chmod(0o755)
        self.munged()
        self._daemon("slurmctld", "-f", self.folder / "slurm.conf")
        for name in self.nodes:
            self.slurmd(name)
        self.until(lambda: self.run("sinfo", "-h", "-o", "%T", "-p", "main").split() == ["idle"], 60)

    def munged(self) -> None:
        place = self.folder / "m"
        names = {"socket": "s", "key-file": "key", "pid-file": "munged.pid", "seed-file": "seed", "log-file": "log"}
        self._daemon("munged", *(f"--{option}={place / name}" for option, name in names.items()))

    def slurmd(self, node: str, *before: str) -> None:
        """Starts the daemon of a node; `before` is a command that starts it, `unshare` for example."""
        self._daemon("slurmd", "-f", self.folder / "slurm.conf", "-N", node, before=before)

    def _daemon(self, program: str, *argv: object, before: tuple[str, ...] = ()) -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert path, program
        command = [*before, path, *map(str, argv)]
        subprocess.run(command, env=self.environment(), check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}

    def run(self, *argv: str, check: bool = True) -> str:
        """What a command of Slurm's printed."""
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or not check, (argv, done.stdout, done.stderr)
        return done.stdout

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s; {self.folder}/*.log may say why"
            time.sleep(0.1)

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "-o", "show", "job", number)))

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def processes(self) -> list[int]:
        """Every process that was started by this cluster, by its configuration's path in the environment or command."""
        marker = str(self.folder).encode()
        pids = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and int(place.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if marker in (place / "cmdline").read_bytes() + (place / "environ").read_bytes():
                        pids.append(int(place.name))
        return pids

    def processes_of(self, node: str) -> list[int]:
        """The processes of a node but its daemon: scripts, tasks, and the slurmstepd of each."""
        marker = f"SLURMD_NODENAME={node}\0".encode()
        pids = set()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if marker in Path(f"/proc/{pid}/environ").read_bytes():
                    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                    daemon = Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"slurmstepd")
                    pids |= {pid, parent} if daemon else {pid}
        return sorted(pids)

    def lose(self, node: str) -> None:
        """Ends a node as if its power had gone: the daemon, and all that runs there."""
        os.kill(self.pid(f"slurmd-{node}"), signal.SIGKILL)
        for pid in self.processes_of(node):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ends every job and every daemon, and what a killed slurmd left."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            user = pwd.getpwuid(os.getuid()).pw_name
            self.run("scancel", f"--user={user}", check=False)
            self.until(lambda: not self.run("squeue", "-h", check=False).strip(), self.kill_wait + 10)
        for name in [*(f"slurmd-{node}" for node in self.nodes), "slurmctld", "m/munged"]:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.pid(name), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while (pids := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def cluster(nodes: int = 2, kill_wait: int = 20) -> Iterator[Cluster]:
    """A cluster until the end of the block."""
    # Not in pytest's folder: munge wants x for all on the whole way to its socket.
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        Path(folder).chmod(0o755)
        running = Cluster(Path(folder), nodes, kill_wait)
        try:
            running.start()
            yield running
        finally:
            running.stop()
