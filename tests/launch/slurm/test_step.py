"""What a task of a step is told of its peers."""

from __future__ import annotations

import json

import pytest

from convoy import exits
from convoy.launch.targets.slurm.step import FIRST_PORT, PORTS, hosts, variables
from convoy.launch.worker import cluster_variables, from_environment
from convoy.trainer.processes import cluster

STEP = {
    "SLURM_JOB_ID": "33", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "gpu[09-10]", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_JOB_NAME": "rn50", "SLURM_RESTART_COUNT": "2", "CONVOY_GRACE_SECONDS": "30",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[1-2,07-10],login", ["n1", "n2", "n07", "n08", "n09", "n10", "login"]),
        ("a[0-1]b[2-3]", ["a0b2", "a0b3", "a1b2", "a1b3"]),
        ("gpu[01-02]-ib,x.example.org", ["gpu01-ib", "gpu02-ib", "x.example.org"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
    ],
)
def test_a_list_of_nodes_is_spelt_out(text, names):
    assert hosts(text) == names


@pytest.mark.parametrize(
    "text",
    ["", ",", "n[", "n]", "n[1-", "n[1-2", "n[]", "n[a-b]", "n[1,,2]", "n 1", "n1;ls", "$(ls)", "-n", "n[2-1]", "n[1-99999999]",
     "n[1-9999]x[1-9999]", "n[1-999999999]" * 9, "x" * 300, "a," * 40_000, "n\u0661", "n[\u0661-\u0663]", "n[1-2]\n"],
)  # fmt: skip
def test_any_other_text_is_refused_in_no_time(text):
    with pytest.raises(exits.CannotRun, match="is no list of 1 to 10,000 nodes; srun sets it"):
        hosts(text)


def test_a_task_knows_itself_and_its_peers():
    identity = from_environment(STEP)
    port = FIRST_PORT + 33 * 16 + 2
    assert (identity.job, identity.index, identity.attempt) == ("rn50", 1, 2)
    assert identity.hosts == (f"gpu09:{port}", f"gpu10:{port}")
    assert identity.answer_seconds == 25
    config = json.loads(cluster_variables(identity, "tensorflow", {})["TF_CONFIG"])
    assert config == {"cluster": {"worker": list(identity.hosts)}, "task": {"type": "worker", "index": 1}}
    joined = cluster.from_environment("jax", cluster_variables(identity, "jax", {}))
    assert (joined.index, joined.processes, joined.coordinator) == (1, 2, f"gpu09:{port}")


def test_on_one_machine_each_task_has_a_port_of_its_own():
    identity = from_environment({**STEP, "CONVOY_ONE_HOST": "127.0.0.1"})
    port = FIRST_PORT + 33 * 16 + 2
    assert identity.hosts == (f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}")


def test_ports_stay_below_those_that_linux_gives_away():
    for number in (1, 999_999_999, 67_108_863):
        port = int(variables({**STEP, "SLURM_JOB_ID": str(number)})["CONVOY_HOSTS"].rpartition(":")[2])
        assert FIRST_PORT <= port < FIRST_PORT + PORTS <= 32_768 - 768


def test_what_a_rehearsal_or_a_pod_says_comes_first():
    pod = {"CONVOY_HOSTS": "a:1,b:2", "CONVOY_WORKERS": "2", "JOB_COMPLETION_INDEX": "0"}
    assert from_environment({**STEP, **pod}).hosts == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID=x is not a whole number"),
        ({"SLURM_PROCID": "-1"}, "SLURM_PROCID=-1 is not a whole number"),
        ({"SLURM_PROCID": "2"}, "is not among CONVOY_WORKERS=2"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "one task a node; give --ntasks-per-node=1"),
        ({"SLURM_RESTART_COUNT": "9" * 99}, "SLURM_RESTART_COUNT=9+ is not a whole number"),
    ],
)
def test_variables_that_no_step_has_are_refused(own, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        from_environment({**STEP, **own})
