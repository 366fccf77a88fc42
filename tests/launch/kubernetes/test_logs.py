"""What a worker of a Kubernetes job printed, and prints."""

from __future__ import annotations

from convoy import exits
from convoy.launch.targets.kubernetes import errors
from kube_jobs import refusal


def test_logs_begin_with_the_last_start(server, target, life):
    first = life.dies(1, 42)["metadata"]["name"]
    server.say(first, "first", "start", over=True)
    life.attempt = 1
    second = life.pod(1)["metadata"]["name"]
    server.say(second, "second", "", "start")
    server.say(life.pod(0)["metadata"]["name"], "another worker")
    assert list(target.logs("rn50", 1, follow=False)) == [
        "second", "", "start", f"--- an earlier start, {first} ---", "first", "start"]  # fmt: skip


def test_logs_of_a_worker_without_logs(server, target, life):
    sentence = refusal(lambda: list(target.logs("rn50", 2, follow=False)))
    assert sentence == "--worker=2: rn50 has 2 workers, from 0 to 1."
    life.ready(0)
    sentence = refusal(lambda: list(target.logs("rn50", 1, follow=False)), exits.TryAgain)
    assert sentence == "worker 1 of rn50 has not begun: its pods are being made; --follow waits for it."
    life.status(terminalState="Completed")
    sentence = refusal(lambda: list(target.logs("rn50", 1, follow=False)))
    assert sentence == (
        "the pods of worker 1 of rn50 are gone, and what they printed with them; Google Cloud keeps it:"
        " `gcloud logging read 'resource.labels.pod_name:rn50-'`."
    )


def test_follow_goes_through_lost_connections_and_restarts(server, target, life):
    """Nothing is lost or told twice, although several lines have the same time, and the server knows only seconds."""
    life.ready(0)
    server.cut_logs = 3
    first = life.pod(0)["metadata"]["name"]
    server.say(first, "1", "2", " of the same time", " as well", "3")
    seen: list[str] = []
    lines = target.logs("rn50", 0, follow=True)
    for _ in range(5):
        seen.append(next(lines))
    assert seen == ["1", "2", " of the same time", " as well", "3"]

    server.say(first, "4", over=True)
    life.dies(0, 42)
    assert next(lines) == "4"
    life.restart()
    second = life.pod(0)["metadata"]["name"]
    server.say(second, "again")
    assert [next(lines), next(lines)] == [f"--- started again, {second} ---", "again"]

    server.say(second, "the last line", over=True)
    life.dies(0, 0)
    life.status(terminalState="Completed")
    assert list(lines) == ["the last line"]


def test_follow_waits_for_the_first_line_and_ends_with_the_job(server, target, life):
    life.ready(0)
    lines = target.logs("rn50", 0, follow=True)

    def later():
        server.say(life.pod(0)["metadata"]["name"], "hello", over=True)
        life.dies(0, 0)
        life.status(terminalState="Completed")

    looks = iter(range(3))
    server.on_get = lambda thing: (
        None if next(looks, None) is not None else (setattr(server, "on_get", lambda _: None), later())
    )
    assert list(lines) == ["hello"]


def test_follow_ends_when_the_job_is_gone(server, target, life):
    server.say(life.pod(0)["metadata"]["name"], "hello", over=True)
    lines = target.logs("rn50", 0, follow=True)
    assert next(lines) == "hello"
    target.cancel("rn50")
    assert list(lines) == []


def test_follow_skips_a_machine_that_is_gone(server, target, life):
    server.say(life.pod(0)["metadata"]["name"], "hello", over=True)
    life.dies(0, 0)
    server.fault(500, "Get https://10.0.0.9:10250/containerLogs: no route to host", path="/log", times=6)
    life.status(terminalState="Completed")
    server.on_get = lambda thing: None
    assert list(target.logs("rn50", 0, follow=True)) == []


def test_follow_tolerates_a_cluster_that_does_not_answer(server, target, life, monkeypatch):
    server.say(life.pod(0)["metadata"]["name"], "hello", over=True)
    lines = target.logs("rn50", 0, follow=True)
    assert next(lines) == "hello"
    server.fault(503, times=2 * (errors.RETRIES + 1))
    life.dies(0, 0)
    life.status(terminalState="Completed")
    assert list(lines) == []
    monkeypatch.setattr("convoy.launch.outage.MAX_OUTAGE_SECONDS", 0.0)
    lines = target.logs("rn50", 0, follow=True)
    server.on_get = lambda thing: server.fault(503, times=99)
    assert "HTTP 503" in refusal(lambda: list(lines), exits.TryAgain)
