"""Submitting, ending and listing jobs in a Kubernetes cluster: the official client against a server on the loopback interface.

The server (kube_server.py) checks what it is sent by the schemas of Kubernetes and of JobSet 0.12, or 0.8 where a test says so.
What controllers would write, the tests write (kube_lives.py). No real cluster was ever met.
"""

from __future__ import annotations

import dataclasses

from convoy import exits
from convoy.launch import follow, watch
from convoy.launch.targets.base import NoSuchJob
from convoy.launch.targets.kubernetes import api as kube_api
from convoy.launch.targets.kubernetes import target as kubernetes
from convoy.launch.targets.names import open_target
from kube_jobs import RUN, refusal, spec
from kube_lives import Life

# Submitting


def test_a_job_is_created_and_known_again(server, target):
    state = target.submit(spec())
    assert (state.name, state.phase, state.run_dir) == ("rn50", "pending", "gs://b/r")
    assert state.reason == "its controller has not seen it yet"
    assert set(server.objects) == {
        ("serviceaccounts", "default", "convoy"),
        ("networkpolicies", "default", "rn50"),
        ("jobsets", "default", "rn50"),
    }
    assert target.state("rn50") == state
    assert state.digest == spec().digest
    assert state.begun > 1.7e9


def test_the_same_job_again_changes_nothing(server, target, life):
    for change in ({"ready": 0}, {"ready": 1}, {"ready": 0, "succeeded": 1}):
        life.ready(**change)
        uid = life.job["metadata"]["uid"]
        server.seen.clear()
        assert target.submit(spec()).name == "rn50"
        assert life.job["metadata"]["uid"] == uid
        assert not [line for line in server.seen if not line.startswith("GET")]
    life.status(terminalState="Completed")
    assert target.submit(spec()).phase == "succeeded"
    assert life.job["metadata"]["uid"] == uid


def test_the_same_job_again_begins_anew_after_it_failed(target, life):
    life.status(terminalState="Failed")
    uid = life.job["metadata"]["uid"]
    assert target.submit(spec()).phase == "pending"
    assert life.job["metadata"]["uid"] != uid


def test_another_job_of_that_name_is_refused_unless_it_is_replaced(server, target, life):
    uid = life.job["metadata"]["uid"]
    other = spec(run=[*RUN, "--seed=7"])
    sentence = refusal(lambda: target.submit(other))
    assert sentence == (
        "--name=rn50 is another job in namespace default, which is pending; give another --name, or --replace to end that one"
        " first."
    )
    assert life.job["metadata"]["uid"] == uid
    server.linger = 3  # its pods take their time to leave
    assert target.submit(other, replace=True).digest == other.digest
    assert life.job["metadata"]["uid"] != uid
    deleted = next(i for i, line in enumerate(server.seen) if line.startswith("DELETE"))
    looks = [
        line
        for line in server.seen[deleted:]
        if line == "GET /apis/jobset.x-k8s.io/v1alpha2/namespaces/default/jobsets/rn50"
    ]
    assert len(looks) >= 4
    assert not [line for line in server.seen if line.startswith("PATCH")]


def test_a_job_that_would_be_refused_does_not_replace_the_existing_one(server, target, life):
    uid = life.job["metadata"]["uid"]
    server.fault(422, "no", method="POST", path="jobsets.*dryRun=All")
    assert "the cluster finds it invalid: no" in refusal(
        lambda: target.submit(spec(run=[*RUN, "--seed=7"]), replace=True)
    )
    assert life.job["metadata"]["uid"] == uid


def test_an_existing_service_account_is_not_created_again(server, target):
    target.submit(spec())
    server.forbidden.add(("create", "serviceaccounts"))
    before = len(server.seen)
    target.submit(spec("--workers=1"), replace=True)
    created = [line for line in server.seen[before:] if line.startswith("POST")]
    assert created
    assert not any("serviceaccounts" in line for line in created)


def test_a_job_that_does_not_end_is_reported(server, target, life, monkeypatch):
    monkeypatch.setattr(kubernetes, "GONE_SECONDS", 0.05)
    server.linger = 10**6
    sentence = refusal(lambda: target.submit(spec(run=[*RUN, "--seed=7"]), replace=True), exits.TryAgain)
    assert sentence == (
        "the job rn50 that was there is still ending after 0.05 s; look with `kubectl get pods"
        " --selector=app.kubernetes.io/instance=rn50 --namespace=default` and try again."
    )


def test_an_indexed_job_owns_its_service(server, target, indexed):
    service = server.one("services", "rn50")
    (owner,) = service["metadata"]["ownerReferences"]
    assert owner["uid"] == indexed.job["metadata"]["uid"]
    assert owner["blockOwnerDeletion"]  # a next job of that name comes when the service is gone, too
    indexed.condition("Failed", "x")
    target.remove("rn50")
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}


def test_a_service_of_another_owner_is_left_alone(server, target):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "rn50"}, "spec": {"ports": [{"port": 80}]}}
    server.put(service)
    assert refusal(lambda: target.submit(spec("--gang=indexed"))) == (
        "there is a service rn50 in namespace default that is not this job's; give another --name, or `kubectl delete service"
        " rn50 --namespace=default`."
    )
    assert {key[0] for key in server.objects} == {"services", "serviceaccounts"}


def test_an_incomplete_submission_is_undone(server, target):
    server.forbidden.add(("create", "services"))
    assert "cannot create services rn50" in refusal(lambda: target.submit(spec("--gang=indexed")))
    assert ("jobs", "default", "rn50") not in server.objects


def test_the_next_submission_makes_a_service_that_an_interrupted_one_left_out(server, target, indexed):
    server.forget("services", "default", "rn50")
    target.submit(spec("--gang=indexed"))
    (owner,) = server.one("services", "rn50")["metadata"]["ownerReferences"]
    assert owner["uid"] == indexed.job["metadata"]["uid"]


def test_a_service_that_was_applied_by_hand_is_used(server, target, indexed):
    del server.one("services", "rn50")["metadata"]["ownerReferences"]
    assert target.submit(spec("--gang=indexed")).phase == "pending"


def lose_answer(server, kind, monkeypatch):
    """What creates the first object of a kind is carried out, and the connection then cut."""
    carried_out = []

    def lose(thing):
        if thing["kind"] == kind and not carried_out:
            carried_out.append(thing)
            raise ConnectionError

    monkeypatch.setattr(server, "put", lambda thing, put=server.put: (put(thing), lose(thing))[0])


def test_an_indexed_job_whose_answer_was_lost_gets_its_service(server, target, monkeypatch):
    lose_answer(server, "Job", monkeypatch)
    target.submit(spec("--gang=indexed"))
    assert ("services", "default", "rn50") in server.objects


def test_a_job_that_somebody_else_just_submitted_is_recognized(server, target):
    """Between our look and our create. Ours may be the other one, too: its answer was lost, and it was sent again."""
    server.fault(404, method="GET", path="jobsets/rn50")
    target.submit(spec())
    server.fault(404, method="GET", path="jobsets/rn50")
    assert target.submit(spec()).digest == spec().digest
    server.fault(404, method="GET", path="jobsets/rn50")
    assert "--name=rn50 is another job" in refusal(lambda: target.submit(spec(run=[*RUN, "--seed=7"])))


def test_a_lost_answer_does_not_make_another_job(server, target, monkeypatch):
    lose_answer(server, "JobSet", monkeypatch)
    assert target.submit(spec()).digest == spec().digest
    assert len([line for line in server.seen if line.startswith("POST") and "jobsets" in line]) == 2


def test_a_namespace_and_a_context_are_the_ones_given(server):
    target = open_target(spec("--namespace=team", "--context=there").options)
    target.submit(spec("--namespace=team", "--context=there"))
    assert ("jobsets", "team", "rn50") in server.objects
    assert "kubectl --context=there " in target.describe(spec("--namespace=team", "--context=there"))


# Ending, listing


def test_cancel_ends_a_job_and_leaves_one_that_has_ended(server, target, life):
    server.linger = 2
    state = target.cancel("rn50")
    assert (state.phase, state.reason) == ("cancelled", "its pods have 120 s to save and leave")
    assert follow.exit_code(state) == exits.STOPPED
    assert target.state("rn50").phase == "cancelled"
    assert target.cancel("rn50").phase == "cancelled"
    sentence = refusal(lambda: [target.state("rn50") for _ in range(4)], NoSuchJob)
    assert sentence == (
        "there is no job rn50 in namespace default: it was never submitted there, was cancelled, or ended more than a day ago;"
        " `convoy launch list --target=k8s` shows what there is."
    )
    target.submit(spec())
    life.status(terminalState="Completed")
    assert target.cancel("rn50").phase == "succeeded"
    assert life.job["status"]["terminalState"] == "Completed"


def test_the_whole_job_is_deleted_before_it_is_gone(server, target, life, monkeypatch):
    """Foreground: its pods before itself, so that a next one of that name does not meet them."""
    bodies = []
    monkeypatch.setattr(
        kube_api.json,
        "dumps",
        lambda value, *rest, real=kube_api.json.dumps, **named: (bodies.append(value), real(value, *rest, **named))[1],
    )
    uid = life.job["metadata"]["uid"]
    target.cancel("rn50")
    assert {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}} in bodies


def test_remove_needs_a_job_that_has_ended(target, life):
    assert refusal(lambda: target.remove("rn50")) == "rn50 has not ended; `convoy launch cancel` ends it."
    life.status(terminalState="Completed")
    target.remove("rn50")
    assert target.jobs() == []


def test_gc_continues_after_a_job_that_expired_meanwhile(server, target, life, monkeypatch):
    life.status(terminalState="Completed")
    gone = target.jobs()
    server.forget("jobsets", "default", "rn50")
    target.submit(spec("--gang=indexed"))
    Life(server, "rn50", "jobs").condition("Complete")
    monkeypatch.setattr(target, "jobs", lambda: [dataclasses.replace(gone[0], name="gone"), *gone])
    monkeypatch.setattr(watch, "open_target", lambda where: target)
    assert watch.collect(["--target=k8s"]) == exits.OK
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}


def test_only_our_jobs_are_listed(server, target, life):
    target.submit(
        dataclasses.replace(
            spec("--gang=indexed"), options=dataclasses.replace(spec("--gang=indexed").options, name="other")
        )
    )
    child = life.child()
    child["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "convoy"
    server.put(child)
    foreign = {"name": "foreign", "labels": {"app.kubernetes.io/managed-by": "helm"}}
    server.put({**server.one("jobs", "other"), "metadata": foreign})
    assert sorted(state.name for state in target.jobs()) == ["other", "rn50"]


def test_clusters_without_jobset_list_their_indexed_jobs(server, target, indexed):
    del server.groups["jobset.x-k8s.io/v1alpha2"]
    assert [state.name for state in target.jobs()] == ["rn50"]
    assert target.state("rn50").name == "rn50"


def test_with_permission_for_one_kind_its_jobs_are_listed(server, target, indexed, capsys):
    server.forbidden.add(("list", "jobsets"))
    assert [state.name for state in target.jobs()] == ["rn50"]
    assert capsys.readouterr().err.startswith(
        "convoy: cannot list jobsets.jobset.x-k8s.io in namespace default: that is"
    )
    server.forbidden.add(("list", "jobs"))
    assert "cannot list jobsets" in refusal(target.jobs)
