"""What a job in a cluster is doing, why it waits and why it ended; and waiting for that."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.launch import follow
from convoy.launch.targets.kubernetes import errors
from kube_jobs import refusal, spec
from kube_lives import Life, condition


def test_phases_are_those_of_the_job_itself(target, life):
    life.ready(0)
    life.pod(0)
    assert target.state("rn50").phase == "pending"
    life.ready(1)
    assert target.state("rn50").phase == "running"
    life.restart()
    life.ready(0)
    assert (target.state("rn50").phase, target.state("rn50").restarts) == ("restarting", 1)
    life.status(conditions=[condition("RestartingJobSet", "")])
    assert target.state("rn50").phase == "restarting"
    life.status(conditions=[])
    life.ready(1)
    assert (target.state("rn50").phase, target.state("rn50").restarts) == ("running", 1)
    life.status(terminalState="Completed")
    state = target.state("rn50")
    assert (state.phase, state.exit_code, state.reason) == ("succeeded", 0, "")


def test_a_child_job_that_failed_is_not_the_end(target, life):
    """JobSet begins it again."""
    child = life.child()
    child["status"] = {"failed": 1, "conditions": [condition("Failed", "", reason="BackoffLimitExceeded")]}
    life.server.put(child)
    life.dies(0, 42)
    life.attempt = 1
    life.ready(0)
    assert target.state("rn50").phase == "restarting"


def test_phases_of_an_indexed_job(target, indexed):
    assert target.state("rn50").phase == "pending"
    indexed.ready(1)
    assert target.state("rn50").phase == "pending"
    indexed.ready(2)
    assert target.state("rn50").phase == "running"
    indexed.ready(1, succeeded=1)
    assert target.state("rn50").phase == "running"
    indexed.condition("Complete")
    assert target.state("rn50").phase == "succeeded"


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_kueue_says_why_a_job_waits(server, target, version):
    if version == "v1beta1":
        del server.groups["kueue.x-k8s.io/v1beta2"]
    target.submit(spec("--queue=team-queue"))
    life = Life(server, "rn50")
    look = "kubectl get localqueue team-queue --namespace=default"
    assert target.state("rn50").reason == f"Kueue has not seen it yet; `{look}` says whether there is the queue"
    reserved = condition("QuotaReserved", "couldn't assign flavors:\n insufficient quota, 2 more needed.", holds=False)
    life.workload(version, conditions=[reserved])
    told = "it waits in queue team-queue: couldn't assign flavors: insufficient quota, 2 more needed"
    assert (target.state("rn50").phase, target.state("rn50").reason) == ("pending", told)
    life.workload(version, conditions=[condition("Evicted", "Preempted to accommodate a workload"), reserved])
    life.dies(0, 143)  # by that
    assert target.state("rn50").reason == "Kueue took its machines back: Preempted to accommodate a workload"
    checks = [{"name": "dws", "state": "Pending", "message": "no machines until 12:00"}]
    life.workload(version, conditions=[condition("QuotaReserved", "")], admissionChecks=checks)
    assert target.state("rn50").reason == "queue team-queue waits for its check dws: no machines until 12:00"
    life.restart()
    life.server.put({**life.job, "spec": {**life.job["spec"], "suspend": False}})
    assert target.state("rn50").reason == "its controller has not seen it yet"


def test_without_permission_for_workloads_a_job_is_submitted_and_seen(server, target):
    server.forbidden.add(("list", "workloads"))
    state = target.submit(spec("--queue=team-queue"))
    assert state.phase == "pending"
    assert state.reason.startswith(
        "why is not known here: cannot list workloads.kueue.x-k8s.io in namespace default: that"
    )


def test_without_permission_for_pods_a_failed_job_is_seen(server, target, life):
    life.status(terminalState="Failed")
    server.forbidden.add(("list", "pods"))
    state = target.state("rn50")
    assert (state.phase, state.exit_code, follow.exit_code(state)) == ("failed", None, exits.BUG)
    assert "cannot list pods in namespace default" in state.reason


def test_a_suspended_job_without_a_queue_says_how_to_resume_it(target, life):
    life.server.put({**life.job, "spec": {**life.job["spec"], "suspend": True}})
    resume = """kubectl patch jobset rn50 --type=merge '-p={"spec":{"suspend":false}}' --namespace=default"""
    assert target.state("rn50").reason == f"it is suspended, and no queue would start it; `{resume}` does"


def test_reasons_why_pods_do_not_start_are_reported_in_order(target, life):
    """The scheduler before images, images before quotas; of the workers, the first."""
    life.ready(0)
    child = life.child()
    assert target.state("rn50").reason == "its pods are being made"
    life.event(child, 'pods "rn50-worker-0-0" is forbidden: exceeded quota: gpus, requested: 4, used: 8, limited: 8')
    assert target.state("rn50").reason == (
        'its pods cannot be made: pods "rn50-worker-0-0" is forbidden: exceeded quota: gpus, requested: 4, used: 8, limited: 8'
    )
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    life.pod(1, "Pending", waiting)
    assert target.state("rn50").reason == "worker 1 cannot start: ImagePullBackOff, Back-off pulling image"
    unschedulable = condition(
        "PodScheduled", "0/8 nodes are available: 8 Insufficient nvidia.com/gpu.", False, "Unschedulable"
    )
    life.pod(1, "Pending", conditions=[unschedulable])
    life.pod(0, "Pending", conditions=[{**unschedulable, "message": "the leader's own reason"}])
    assert target.state("rn50").reason == "worker 0 finds no machine: the leader's own reason"
    for worker in (0, 1):
        life.pod(worker, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    for event in [key for key in life.server.objects if key[0] == "events"]:
        life.server.forget(*event)
    assert target.state("rn50").reason == "its containers are starting"


def test_events_of_pods_count_once_all_pods_exist(target, life):
    life.ready(0)
    child = life.child()
    life.event(child, "exceeded quota")  # it no longer does
    for worker in (0, 1):
        pod = life.pod(worker, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    assert target.state("rn50").reason == "its containers are starting"
    life.event(pod, 'MountVolume.SetUp failed for volume "data"', "FailedMount")
    assert target.state("rn50").reason == 'its containers do not start: MountVolume.SetUp failed for volume "data"'


def test_a_job_that_begins_again_says_why(target, life):
    life.pod(0)
    life.dies(1, 137)
    life.attempt = 1  # the old pods are still there
    life.ready(0)
    state = target.state("rn50")
    assert (state.phase, state.restarts) == ("restarting", 1)
    assert state.reason == (
        "worker 1 was killed (137), which is what want of memory looks like; give more --memory if nobody did it"
    )
    life.attempt = 0
    life.pod(1)
    life.attempt = 1
    assert target.state("rn50").reason == "the pods of its last start are leaving"


def test_a_dead_worker_is_reported_before_the_controllers_notice(target, life):
    life.pod(0)
    life.ready(0)
    life.dies(1, 42)
    state = target.state("rn50")
    assert (state.phase, state.reason) == ("restarting", "worker 1 ended with exit code 42")
    life.dies(1, 65)  # which no restart would change
    state = target.state("rn50")
    assert (state.phase, state.reason) == ("running", "worker 1 ended with exit code 65")


def test_an_indexed_job_does_not_begin_again(target, indexed):
    indexed.pod(0)
    indexed.ready(1)
    indexed.dies(1, 42)
    state = target.state("rn50")
    assert (state.phase, state.reason) == ("running", "worker 1 ended with exit code 42")


def test_a_machine_that_was_taken_back_is_the_cause(target, life):
    taken = condition("DisruptionTarget", "preempted by the spot machine's end.")
    life.dies(0, 42, "2026-11-25T10:00:00Z")
    life.pod(
        1,
        "Failed",
        {"terminated": {"exitCode": 143}},
        conditions=[{**taken, "lastTransitionTime": "2026-11-25T09:59:00Z"}],
    )
    life.status(terminalState="Failed", conditions=[condition("Failed", "too many restarts")])
    state = target.state("rn50")
    assert (state.reason, state.exit_code) == (
        "worker 1 lost its machine: preempted by the spot machine's end (too many restarts)", 42)  # fmt: skip


def test_events_of_other_objects_are_ignored(target, life, server):
    life.ready(0)
    other = server.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}})
    life.event(other, "something else")
    assert target.state("rn50").reason == "its pods are being made"


@pytest.mark.parametrize(
    ("code", "reason", "told", "exit_code"),
    [
        (78, "Error", "ended with exit code 78", 78),
        (1, "Error", "ended with exit code 1", 1),
        (42, "Error", "ended with exit code 42", 42),
        (143, "Error", "ended with exit code 143", 42),
        (
            137,
            "Error",
            "was killed (137), which is what want of memory looks like; give more --memory if nobody did it",
            42,
        ),
        (137, "OOMKilled", "was killed, since it needed more memory than it may have; give more --memory", 42),
    ],
)
def test_the_worker_that_ended_a_job_is_named(target, life, code, reason, told, exit_code):
    life.dies(0, 42, "2026-11-25T10:00:00Z")  # of an earlier start
    life.attempt = 1
    life.dies(0, 42, "2026-11-25T11:00:05Z")  # the peer found itself alone
    life.dies(1, code, "2026-11-25T11:00:00Z", reason)
    life.status(terminalState="Failed", conditions=[condition("Failed", "jobset failed due to a rule")])
    state = target.state("rn50")
    assert (state.phase, state.reason, state.exit_code) == (
        "failed", f"worker 1 {told} (jobset failed due to a rule)", exit_code)  # fmt: skip


def test_a_full_disk_is_told_from_exhausted_memory(target, life):
    said = 'Usage of EmptyDir volume "tmp" exceeds the limit "10Gi".'
    end = {"exitCode": 137, "reason": "Error", "finishedAt": "2026-11-25T10:00:00Z"}
    life.pod(1, "Failed", {"terminated": end}, reason="Evicted", message=said)
    life.status(terminalState="Failed", conditions=[condition("Failed", "it has no restarts left")])
    assert target.state("rn50").reason == (
        'worker 1 was evicted: Usage of EmptyDir volume "tmp" exceeds the limit "10Gi"; give more --scratch if it is its disk'
        " that was full (it has no restarts left)"
    )


def test_a_permanent_end_is_the_cause_even_if_it_is_not_the_first(target, life):
    life.dies(0, 42, "2026-11-25T10:00:00Z")
    life.dies(1, 65, "2026-11-25T10:00:09Z")
    life.status(terminalState="Failed")
    assert target.state("rn50").exit_code == 65


def test_when_its_pods_are_gone_the_child_job_says_how_it_ended(target, life):
    child = life.child()
    text = (
        "Container trainer for pod default/rn50-worker-0-1-x failed with exit code 70 matching FailJob rule at index 1"
    )
    child["status"] = {"conditions": [condition("Failed", text, reason="PodFailurePolicy")]}
    life.server.put(child)
    life.status(terminalState="Failed", conditions=[condition("Failed", "jobset failed")])
    state = target.state("rn50")
    assert (state.reason, state.exit_code) == ("a worker ended with exit code 70 (jobset failed)", 70)


def test_a_job_that_ran_out_of_time_may_go_on(target, indexed):
    indexed.dies(0, 143)
    indexed.condition("Failed", "Job was active longer than specified deadline", reason="DeadlineExceeded")
    state = target.state("rn50")
    assert (state.reason, state.exit_code) == ("it ran for as long as --hours allows; submitted again, it goes on", 42)


def test_wait_ends_with_the_exit_code_of_the_job(target, life, server, capsys):
    """From the queue to the end, as the controllers go on each time somebody looks."""

    def goes_on():
        yield lambda: life.ready(0)
        yield lambda: (life.pod(0), life.pod(1), life.ready(1))
        yield lambda: (life.restart(), life.ready(0))
        yield lambda: (life.pod(0), life.pod(1), life.ready(1))
        yield lambda: (
            life.dies(1, 70),
            life.status(terminalState="Failed", conditions=[condition("Failed", "a rule")]),
        )

    steps = goes_on()
    server.on_get = lambda found: next(steps, lambda: None)() if found["kind"] == "JobSet" else None
    assert follow.until_the_end(target, "rn50") == 70
    told = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in told] == [
        "rn50: pending", "rn50: pending", "rn50: running", "rn50: restarting", "rn50: running", "rn50: failed"]  # fmt: skip
    assert told[-1] == "rn50: failed, 1 restart, exit code 70, worker 1 ended with exit code 70 (a rule)"


def test_wait_tolerates_a_cluster_that_does_not_answer(server, target, life, capsys):
    """As while its control plane is upgraded."""
    life.ready(1)
    looks = iter(range(99))

    def goes_on(found):
        look = next(looks)
        if look == 1:
            server.fault(503, "the server is being upgraded", times=2 * (errors.RETRIES + 1))
        elif look > 1:
            life.status(terminalState="Completed")

    server.on_get = goes_on
    assert follow.until_the_end(target, "rn50") == exits.OK
    told = capsys.readouterr()
    assert told.out.splitlines() == ["rn50: running", "rn50: succeeded"]
    assert told.err.count("HTTP 503, the server is being upgraded") == 2


def test_wait_does_not_tolerate_an_outage_for_ever(server, target, life, monkeypatch):
    monkeypatch.setattr("convoy.launch.outage.MAX_OUTAGE_SECONDS", 0.0)
    server.on_get = lambda found: server.fault(503, "gone", path="jobsets", times=99)
    life.ready(1)
    assert "HTTP 503, gone" in refusal(lambda: follow.until_the_end(target, "rn50"), exits.TryAgain)
