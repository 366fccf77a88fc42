"""Several hosts on one machine: Convoy on TensorFlow and on JAX beside torch's DistributedDataParallel over Gloo.

    python benchmarks/cluster.py --torch_python=PYTHON    # of an environment that has torch; without it that side is left out

Each host is a network namespace with a cable to a switch (tests/hosts.py). It has one process, one core and the same share of
it (benchmarks/quota.py), whether 1, 2 or 4 processes run: so more hosts bring more computing power, as real ones do. Links are
as fast as memory, or shaped in both directions by `tc`. Every process has the same batch at any number of processes (weak
scaling): efficiency is images per second and process, against those of one process.

The sides take turns, round by round, and start anew in each. Starting and compiling is neither limited nor measured. Needs
root. Writes results/cluster.csv, in which it replaces the rows of the model and flags that it measures.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

from quota import quota, version
from rows import HERE, describe, replace
from step_torch import KEEPS_MEMORY, version_of

from convoy import entry, exits, noise

sys.path.append(str(HERE.parent / "tests"))
from hosts import Host, network, refused

SIDES = {  # how gradients are summed
    "tensorflow": "in buckets during the backward pass, a ring over gRPC",
    "jax": "in buckets, over Gloo",
    "torch": "in buckets during the backward pass, over Gloo",
    "torch_compiled": "the same, by torch.compile",
}
WARM_STEPS = 3  # of each measurement
UNSHAPED = 0.0


class Setting(NamedTuple):
    """What is measured."""

    side: str
    processes: int
    gbit: float  # of the links, UNSHAPED where they have no limit


class Measurement(NamedTuple):
    """Of one side on some hosts."""

    seconds: float  # of a step
    sent_mib: float  # by the first host in a step


class Team:
    """The processes of a side: every host has one, with a core of its own."""

    def __init__(
        self, side: str, python: str, hosts: Sequence[Host], batch: int, environment: dict[str, str], *words: str
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        addresses = ",".join(host.address for host in hosts)
        environment = {**noise.QUIET, **os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.processes = []
        for index, host in enumerate(hosts):
            argv = [python, HERE / "cluster_worker.py", side, index, addresses, batch, *words]
            pinned = ["taskset", "--cpu-list", cores[index % len(cores)], *argv]
            process = subprocess.Popen(host.command(pinned), stdin=PIPE, stdout=PIPE, env=environment, text=True)
            self.processes.append(process)

    def wait(self) -> None:
        """Until all are ready."""
        for process in self.processes:
            if not any(line.strip() == "ready" for line in process.stdout):
                raise RuntimeError("a process ended before it was ready; what it said is above")

    def steps(self, count: int) -> float:
        """Makes steps; the seconds of the slowest process."""
        for process in self.processes:
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        return max(float(process.stdout.readline()) for process in self.processes)

    def measure(self, seconds: float) -> Measurement:
        self.steps(WARM_STEPS)
        count = max(1, round(seconds * WARM_STEPS / self.steps(WARM_STEPS)))
        before = self._sent()
        return Measurement(self.steps(count) / count, (self._sent() - before) / count / 2**20)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def _sent(self) -> int:
        """Bytes that the first host has sent."""
        lines = Path(f"/proc/{self.processes[0].pid}/net/dev").read_text().splitlines()
        return next(int(line.split()[9]) for line in lines if line.strip().startswith("eth0:"))


@contextlib.contextmanager
def team(flags: argparse.Namespace, side: str, hosts: Sequence[Host]) -> Iterator[Team]:
    """The processes of a side, ready and limited."""
    with contextlib.ExitStack() as stack:
        quotas = [stack.enter_context(quota(host.name)) for host in hosts]
        python = flags.torch_python if side.startswith("torch") else sys.executable
        peer = side.startswith("torch")
        words = [flags.model] if peer else [flags.model, *flags.flags]
        own = Team(side, python, hosts, flags.batch, KEEPS_MEMORY if peer else {}, *words)
        stack.callback(own.end)
        own.wait()
        for process, limit in zip(own.processes, quotas, strict=True):
            if flags.share:
                limit.add(process.pid)
                limit.limit(flags.share)
        yield own


def shape(hosts: Sequence[Host], switch: Sequence[str], gbit: float, delay_us: int) -> None:
    """Makes the links so fast, in each direction, and delays what each host sends; without limits for UNSHAPED."""
    for index, host in enumerate(hosts):
        for tc, device in (host.command(["tc"]), "eth0"), ([*switch, "tc"], f"port{index}"):
            subprocess.run([*tc, "qdisc", "del", "dev", device, "root"], stderr=subprocess.DEVNULL, check=False)
            if gbit == UNSHAPED:
                continue
            words = f"qdisc add dev {device} root handle 1: tbf rate {gbit}gbit burst 256kb latency 100ms"
            subprocess.run([*tc, *words.split()], check=True)
            if delay_us and device == "eth0":
                words = f"qdisc add dev {device} parent 1:1 netem delay {delay_us}us"
                if subprocess.run([*tc, *words.split()], check=False).returncode:
                    raise exits.CannotRun(
                        f"--delay_us={delay_us}: this kernel delays no packets (sch_netem is missing); leave it out."
                    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch_python", default=sys.executable, help="an interpreter whose environment has torch")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument(
        "--processes", nargs="+", type=int, default=[2, 4], help="besides 1, which they are compared with"
    )
    parser.add_argument(
        "--gbit", nargs="+", type=float, default=[UNSHAPED, 1.0], help="speeds of the links; 0: no limit"
    )
    parser.add_argument("--delay_us", type=int, default=0, help="of what a host sends over a shaped link")
    parser.add_argument("--batch", type=int, default=128, help="of each process")
    parser.add_argument("--model", choices=["article_cnn", "resnet18"], default="article_cnn")
    parser.add_argument("--flags", type=str.split, default=[], help="more flags of Convoy's, as one word")
    parser.add_argument("--share", type=float, default=0.45, help="of a core that a process has; 0: no limit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "cluster.csv")
    flags = parser.parse_args()
    if why := refused():
        raise exits.CannotRun(f"no hosts can be made on this machine: {why}.")
    versions = {**describe(), "torch": version_of(flags.torch_python, "torch")}
    sides = [side for side in flags.sides if versions[side.removesuffix("_compiled")]]
    if missing := sorted({*flags.sides} - {*sides}):
        print(f"{', '.join(missing)} is not installed, and left out; benchmarks/peers.txt names the peers", flush=True)
    measured = measure(flags, sides)
    for setting in measured:
        own = row(flags, versions, measured, setting)
        replace(flags.output, own, "model", "flags", "side", "processes", "gbit")
    return exits.OK


def measure(flags: argparse.Namespace, sides: Sequence[str]) -> dict[Setting, list[Measurement]]:
    """A measurement in each round of every side, number of processes and speed of the links."""
    measured: dict[Setting, list[Measurement]] = {}
    with network(max(flags.processes)) as (hosts, switch):
        for _, side, count in itertools.product(range(flags.rounds), sides, (1, *flags.processes)):
            with team(flags, side, hosts[:count]) as own:
                for gbit in flags.gbit if count > 1 else [UNSHAPED]:  # one process sends nothing
                    shape(hosts, switch, gbit, flags.delay_us)
                    setting, measurement = Setting(side, count, gbit), own.measure(flags.seconds)
                    measured.setdefault(setting, []).append(measurement)
                    print(*setting, *measurement, flush=True)
    return measured


def row(
    flags: argparse.Namespace,
    versions: dict[str, str],
    measured: dict[Setting, list[Measurement]],
    setting: Setting,
) -> dict[str, object]:
    own, count = measured[setting], setting.processes
    speeds = [flags.batch * count / measurement.seconds for measurement in own]
    of_one = Setting(setting.side, 1, UNSHAPED)
    alone = statistics.median(flags.batch / measurement.seconds for measurement in measured[of_one])
    return {
        **{name: versions[name] for name in ("date", "machine", "python", "tensorflow", "keras", "jax", "torch")},
        "model": flags.model,
        "flags": " ".join(flags.flags),
        **setting._asdict(),
        "delay_us": flags.delay_us if setting.gbit else 0,
        "share_of_core": flags.share,
        "quota": "cgroup v2, cpu.max" if version() == 2 else "cgroup v1, cpu.cfs_quota_us",
        "batch": flags.batch,
        "rounds": flags.rounds,
        "images_per_second": round(statistics.median(speeds)),
        "least": round(min(speeds)),
        "most": round(max(speeds)),
        "efficiency": round(statistics.median(speeds) / (alone * count), 4),
        "step_ms": round(1000 * statistics.median(measurement.seconds for measurement in own), 2),
        "sent_mib": round(statistics.median(measurement.sent_mib for measurement in own), 3),
        "gradients": SIDES[setting.side],
    }


if __name__ == "__main__":
    entry.call(main)
