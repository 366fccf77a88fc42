"""JAX on the CPUs of several hosts, whose own names lead to loopback, as in Debian's /etc/hosts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convoy import exits
from convoy.trainer.engines.jax import gloo
from convoy.trainer.processes.cluster import Cluster
from hosts import Host, network, refused
from support import QUICK, REPOSITORY, assert_same_bits, command, environment, run_workers

PORT = 2222
# What the engine does when it joins, without the engine: importing TensorFlow takes most of the time otherwise.
GATHER = """
import runpy, sys
import jax
from convoy.trainer.processes import cluster
own = cluster.from_environment("jax")
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize(own.coordinator, own.processes, own.index)
runpy.run_path(sys.argv[1])["advertise"](own, 30)
from jax.experimental import multihost_utils
print(*multihost_utils.process_allgather(jax.numpy.float32(own.index)), flush=True)
"""


@pytest.fixture
def two_hosts() -> Iterator[list[Host]]:
    if why := refused():
        pytest.skip(why)
    with network(2) as (hosts, _):
        yield hosts


def variables(coordinator: str, index: int) -> dict[str, str]:
    return environment(
        JAX_COORDINATOR_ADDRESS=f"{coordinator}:{PORT}", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(index)
    )


def run_on(hosts: list[Host], argv: list[object], coordinator: str, cwd: Path) -> list[str]:
    """What the processes, one on each host, say."""
    processes = [
        subprocess.Popen(
            host.command(argv, cwd),
            env=variables(coordinator, index),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, host in enumerate(hosts)
    ]
    outcomes = [process.communicate(timeout=150) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    return [out for out, _ in outcomes]


def test_two_hosts_whose_names_are_loopback_reach_each_other(two_hosts, tmp_path):
    program = [sys.executable, "-P", "-c", GATHER, REPOSITORY / "trainer" / "engines" / "jax" / "gloo.py"]
    said = run_on(two_hosts, program, two_hosts[0].name, tmp_path)
    assert [text.splitlines()[-1] for text in said] == ["0.0 1.0"] * 2


@pytest.mark.thorough
def test_two_hosts_train_as_two_processes_of_one(two_hosts, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    flags = [*QUICK, "--devices=cpu:1", "--run_dir=run"]
    run_workers(here, "jax", 2, *flags)
    run_on(two_hosts, command("train", "--backend=jax", *flags), two_hosts[0].address, there)
    assert_same_bits(here / "run", there / "run")


# host, as a process knows it -> (its own address on the way there, the other's)
ON_COORDINATOR = {"host0": ("127.0.0.1", "127.0.1.1"), "10.0.0.1": ("10.0.0.1", "10.0.0.1")}
ON_ANOTHER = {"host0": ("10.0.0.2", "10.0.0.1")}


@pytest.mark.parametrize(
    ("routes", "addresses"),
    [
        ([ON_COORDINATOR, ON_ANOTHER], ["10.0.0.1", "10.0.0.2"]),
        ([ON_COORDINATOR, ON_COORDINATOR, ON_ANOTHER], ["10.0.0.1", "10.0.0.1", "10.0.0.2"]),
        ([ON_COORDINATOR, ON_COORDINATOR], ["127.0.0.1", "127.0.0.1"]),  # nobody else reaches them
        ([{"host0": ("10.0.0.1", "10.0.0.1")}, ON_ANOTHER], ["10.0.0.1", "10.0.0.2"]),
        (
            [{"host0": ("::1", "::1"), "fd00::1": ("fd00::1", "fd00::1")}, {"host0": ("fd00::2", "fd00::1")}],
            ["fd00::1", "fd00::2"],
        ),
    ],
)
def test_each_process_gives_the_address_on_its_way_to_the_coordinator(monkeypatch, routes, addresses):
    seen = {gloo._KEY.format(index): ways["host0"][1] for index, ways in enumerate(routes)}
    for index, address in enumerate(addresses):
        monkeypatch.setattr(gloo, "_route", routes[index].__getitem__)
        published: dict[str, str] = {}
        cluster = Cluster(index, len(routes), f"host0:{PORT}")
        assert gloo.own_address(cluster, published.__setitem__, seen.__getitem__) == address
        assert published == {gloo._KEY.format(index): seen[gloo._KEY.format(index)]}


def test_an_address_without_a_way_is_passed_over(monkeypatch):
    assert gloo._route("127.0.0.1") == ("127.0.0.1", "127.0.0.1")
    # No datagram socket may connect to the first.
    ways = [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (address, 9)) for address in ("255.255.255.255", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ways)
    assert gloo._route("host0")[1] == "127.0.0.2"
    del ways[1]
    with pytest.raises(exits.TryAgain, match="the way to the first process at host0 .permission denied.; try it again"):
        gloo._route("host0")
