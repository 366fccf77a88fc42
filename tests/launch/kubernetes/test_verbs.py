"""Every verb of `convoy launch` on a cluster, from a dry run to its removal."""

from __future__ import annotations

import json

import pytest

from convoy import exits
from convoy.launch import cli
from convoy.store import open_store
from kube_jobs import RUN, SPEC
from kube_lives import Life

PLACE = "--target=k8s"


@pytest.fixture
def convoy(server, capsys):
    """Words after `convoy launch` -> (exit code, lines)."""

    def call(*words: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = cli.LAUNCH(list(words))
        return code, capsys.readouterr().out.splitlines()

    return call


def test_a_job_from_a_dry_run_to_its_removal(server, convoy, monkeypatch, tmp_path):
    # What the run tells of itself lies in its directory; a folder takes the bucket's place.
    monkeypatch.setattr(
        "convoy.launch.watch.open_store", lambda url: open_store(str(tmp_path / url.removeprefix("gs://")))
    )
    code, lines = convoy("submit", "--dry_run", *SPEC, *RUN)
    assert code == exits.OK
    assert "kind: JobSet" in lines
    assert server.seen == []

    name = "--name=rn50"
    pending = "rn50: pending, its controller has not seen it yet"
    assert convoy("submit", *SPEC, *RUN) == (exits.OK, [pending])
    assert convoy("submit", *SPEC, *RUN) == (exits.OK, [pending])
    with pytest.raises(exits.CannotRun, match="--name=rn50 is another job"):
        convoy("submit", *SPEC, *RUN, "--seed=7")
    life = Life(server, "rn50")
    assert convoy("list", PLACE) == (exits.OK, [pending])

    life.ready(1)
    server.say(life.pod(1)["metadata"]["name"], "step 1")
    status = {
        "step": 10,
        "total": 100,
        "epoch": 1.5,
        "images_per_second": 1234.5,
        "loss": 0.25,
        "eta_seconds": 90,
        "updated": 0,
    }
    open_store(str(tmp_path / "b/r")).put("status.json", json.dumps(status).encode())
    code, lines = convoy("status", PLACE, name)
    assert (code, lines[0]) == (exits.OK, "rn50: running")
    assert "  step       10 of 100, epoch 1.5" in lines
    assert convoy("logs", PLACE, name, "--worker=1") == (exits.OK, ["step 1"])
    with pytest.raises(exits.TryAgain, match="rn50 has not ended within"):
        convoy("wait", PLACE, name, "--timeout=0.001")
    assert convoy("gc", PLACE) == (exits.OK, [])

    life.dies(1, 70)
    life.status(terminalState="Failed")
    told = "rn50: failed, exit code 70, worker 1 ended with exit code 70 (no reason given)"
    assert convoy("wait", PLACE, name) == (exits.DIVERGED, [told])
    assert convoy("gc", PLACE) == (exits.OK, ["rn50: removed, it had failed"])
    assert convoy("list", PLACE) == (exits.OK, ["No jobs."])


def test_a_job_that_is_cancelled(server, convoy):
    server.linger = 3
    convoy("submit", *SPEC, "--gang=indexed", *RUN)
    told = "rn50: cancelled, its pods have 120 s to save and leave"
    assert convoy("cancel", PLACE, "--name=rn50") == (exits.OK, [told])
    assert convoy("wait", PLACE, "--name=rn50") == (exits.STOPPED, [told])


def test_a_sweep(server, convoy, monkeypatch):
    """Its jobs succeed as they are looked at, and no more than two are there at a time."""
    most = []

    def succeeds(found):
        if found["kind"] == "JobSet":
            going = [job for job in server.objects.values() if job["kind"] == "JobSet" and "status" not in job]
            most.append(len(going))
            server.put({**found, "status": {"terminalState": "Completed"}})

    server.on_get = succeeds
    code, lines = convoy("submit", *SPEC, "--sweep=seed=0:3", "--max_parallel=2", *RUN)
    assert code == exits.OK
    assert [line for line in lines if line.endswith("succeeded")] == [
        f"rn50-seed{seed}: succeeded" for seed in range(3)
    ]
    assert max(most) <= 2
