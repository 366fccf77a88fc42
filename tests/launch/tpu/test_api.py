"""Calls of Cloud TPU's API: what is refused, slow, lost or away."""

from __future__ import annotations

import pytest

pytest.importorskip("google.cloud.tpu_v2", reason="google-cloud-tpu is not installed")

from convoy import exits
from convoy.launch.targets.base import PENDING
from convoy.launch.targets.tpu_vm import api as tpu_api


def test_a_slow_operation_is_no_error(server, target, spec, monkeypatch):
    monkeypatch.setattr(tpu_api, "CREATE_SECONDS", 0.1)
    server.operations.append({"done": False})
    assert target.submit(spec()).phase == PENDING


def test_a_failed_operation_is_an_error(server, target, spec):
    server.operations.append({"done": True, "error": {"code": 8, "message": "Quota 'X' exceeded"}})
    with pytest.raises(exits.CannotRun, match="quota is used up: Quota 'X' exceeded; .*--zone"):
        target.submit(spec())


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (429, exits.TryAgain, "now: TooManyRequests; try the same command again"),
        (403, exits.CannotRun, r"told so; ask for roles/tpu\.admin, .*gcloud services enable"),
        (401, exits.CannotRun, "no valid credentials; run `gcloud auth application-default login`"),
        (400, exits.CannotRun, "cannot list queued resources in z of project p: told so"),
        (404, exits.CannotRun, "no such zone or project"),
        (500, exits.TryAgain, "now: InternalServerError; try the same command again"),
    ],
)
def test_a_refusal_is_a_sentence(server, target, monkeypatch, status, error, words):
    monkeypatch.setattr(tpu_api, "CALL_SECONDS", 0.5)  # a busy machine answers within it
    server.faults += [(status, "told so")] * 100
    with pytest.raises(error, match=words):
        target.jobs()


def test_a_quota_is_named(server, target, spec, monkeypatch):
    answer = server.answer
    refusal = 429, {"error": {"code": 429, "message": "Quota 'TPUV5sLitepod' exceeded"}}
    monkeypatch.setattr(server, "answer", lambda *asked: refusal if asked[0] == "POST" else answer(*asked))
    with pytest.raises(exits.CannotRun, match="the quota is used up: Quota 'TPUV5sLitepod' exceeded; .*--zone than z"):
        target.submit(spec())


def test_a_transient_fault_is_no_error(server, target, spec, monkeypatch):
    server.faults += [(503, "away"), (500, "away")]
    assert target.jobs() == []
    answer, lost = server.answer, []

    def lose_the_first(method, url, body):
        response = answer(method, url, body)
        if method == "POST" and not lost:
            lost.append(server.resources.pop("rn50"))
            return 503, {}
        return response

    monkeypatch.setattr(server, "answer", lose_the_first)
    assert target.submit(spec()).phase == PENDING
    posts = [request for request in server.requests if request.startswith("POST")]
    # The same request, by its id, so that it is not made twice.
    assert len(posts) == 2
    assert "requestId=" in posts[0]
    assert posts[0] == posts[1]


def test_an_unreachable_api_is_a_sentence(server, target, monkeypatch):
    monkeypatch.setattr(tpu_api, "CALL_SECONDS", 0.1)
    server.__exit__()
    with pytest.raises(exits.TryAgain, match="now: ConnectionError; try the same command again"):
        target.state("rn50")
