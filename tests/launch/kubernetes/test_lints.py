"""Each lint has an example that it alone finds; what is rendered has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convoy.launch.command_line import from_argv
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.kubernetes.lints import lint

Object = dict[str, Any]


def rendered(gang: str = "jobset") -> list[Object]:
    """A slice of TPUs, which has the most that can be wrong; a queue, so that no label is missing."""
    return manifest.render(
        from_argv(
            ["--target=k8s", "--name=rn50", "--image=registry.example.com/convoy:1", "--accelerator=v5e-16", "--queue=team",
             f"--gang={gang}", "--", "--run_dir=gs://bucket/runs/one", "--backend=jax"]
        )
    )  # fmt: skip


class Parts:
    """The parts of documents that tests change."""

    def __init__(self, rendered: list[Object]):
        self.documents = rendered
        self.owner = rendered[-1]
        self.spec = self.owner["spec"]
        self.labels = self.owner["metadata"]["labels"]
        self.annotations = self.owner["metadata"]["annotations"]
        self.job = documents.job_spec(self.owner)
        self.rules = self.job["podFailurePolicy"]["rules"]
        self.pod = self.job["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.resources = self.container["resources"]
        self.policy = rendered[1]["spec"]

    def variable(self, name: str) -> Object:
        return next(entry for entry in self.container["env"] if entry["name"] == name)

    def volume(self, name: str) -> Object:
        return next(volume for volume in self.pod["volumes"] if volume["name"] == name)


@pytest.mark.parametrize("gang", ["jobset", "indexed"])
def test_rendered_documents_have_no_lints(gang):
    assert lint(rendered(gang)) == []


def rename(parts: Parts, name: str) -> None:
    """A job of another name, all of it."""
    parts.owner["metadata"]["name"] = parts.spec["network"]["subdomain"] = name
    parts.variable("CONVOY_JOB")["value"] = name
    for selector in (parts.policy["podSelector"], parts.policy["ingress"][0]["from"][0]["podSelector"]):
        selector["matchLabels"] = dict.fromkeys(selector["matchLabels"], name)
    hosts = [f"{name}-worker-0-{index}.{name}" for index in range(parts.job["completions"])]
    parts.variable("CONVOY_HOSTS")["value"] = ",".join(hosts)


JOBSET: dict[str, tuple[Callable[[Parts], object], str]] = {
    # Names and labels.
    "name_too_long": (
        lambda p: rename(p, "n" * 47),
        "64 characters where 63 are possible; give a name that is 1 shorter",
    ),
    "name_begins_with_a_digit": (lambda p: rename(p, "50rn"), "the name is not possible"),
    "namespace": (lambda p: p.owner["metadata"].update(namespace="My_Team"), "there can be no namespace `My_Team`"),
    "label_value": (lambda p: p.labels.update(team="a b"), "team=a b is no label"),
    "label_value_too_long": (lambda p: p.labels.update(team="a" * 64), "is no label"),
    "label_name": (lambda p: p.labels.update({"Prefix_/x": "1"}), "`Prefix_/x` is no name of a label"),
    "pod_label": (lambda p: p.job["template"]["metadata"]["labels"].update(team="-"), "team=- is no label"),
    "annotations": (lambda p: p.annotations.update(note="x" * 2**18), "the annotations have"),
    # What JobSet's webhook checks.
    "two_rules_of_one_name": (
        lambda p: p.spec["failurePolicy"]["rules"][1].update(name="permanent"),
        "two of the rules permanent, permanent, tryAgain have one name",
    ),
    "rule_name": (
        lambda p: p.spec["failurePolicy"]["rules"][0].update(name="2-fast"),
        "a rule cannot be called `2-fast`",
    ),
    "reason": (
        lambda p: p.spec["failurePolicy"]["rules"][0].update(onJobFailureReasons=["Preempted"]),
        "no Job fails for the reason Preempted",
    ),
    "target_of_a_rule": (
        lambda p: p.spec["failurePolicy"]["rules"][0].update(targetReplicatedJobs=["ps"]),
        "a policy targets ps, but the replicated jobs are worker",
    ),
    "target_of_success": (
        lambda p: p.spec["successPolicy"].update(targetReplicatedJobs=["chief"]),
        "a policy targets chief",
    ),
    "two_replicated_jobs_of_one_name": (
        lambda p: p.spec["replicatedJobs"].append(p.spec["replicatedJobs"][0]),
        "two of the replicated jobs worker, worker have one name",
    ),
    "max_restarts": (lambda p: p.spec["failurePolicy"].update(maxRestarts=2**31), "maxRestarts 2147483648 is more"),
    "hostnames": (lambda p: p.spec["network"].update(enableDNSHostnames=False), "give enableDNSHostnames: true"),
    "unready": (
        lambda p: p.spec["network"].update(publishNotReadyAddresses=False),
        "give publishNotReadyAddresses: true",
    ),
    "subdomain": (
        lambda p: p.spec["network"].update(subdomain="rn50.b"),
        "subdomain rn50.b is no part of a host's name",
    ),
    "exclusive_but_not_indexed": (
        lambda p: p.job.update(completionMode="NonIndexed"),
        "topology to Indexed jobs alone",
    ),
    # Kueue.
    "suspended_for_ever": (lambda p: p.labels.pop("kueue.x-k8s.io/queue-name"), "no queue would ever start it"),
    "past_the_queue": (lambda p: p.spec.pop("suspend"), "would start before Kueue admits it"),
    # The Job.
    "not_indexed": (lambda p: p.job.pop("completionMode"), "its workers would have no numbers"),
    "waits_for_itself": (lambda p: p.job.update(parallelism=2), "2 of its 4 workers would run and wait for the others"),
    "backoff": (lambda p: p.job.update(backoffLimit=3), "give backoffLimit: 0"),
    "deadline": (lambda p: p.job.update(activeDeadlineSeconds=0), "activeDeadlineSeconds: 0 is not possible"),
    "restart_policy": (lambda p: p.pod.pop("restartPolicy"), "give restartPolicy: Never"),
    "replacement": (
        lambda p: p.job.update(podReplacementPolicy="TerminatingOrFailed"),
        "give podReplacementPolicy: Failed",
    ),
    "rule_for_nobody": (
        lambda p: p.rules[1]["onExitCodes"].update(containerName="main"),
        "a rule is for container main",
    ),
    "codes_in_disorder": (lambda p: p.rules[1]["onExitCodes"]["values"].reverse(), "are not in order"),
    "code_twice": (lambda p: p.rules[1]["onExitCodes"]["values"].insert(0, 42), "are not in order"),
    "code_zero": (
        lambda p: p.rules[1].update(onExitCodes={"operator": "In", "values": [0, 1]}),
        "exit code 0, which is no failure",
    ),
    # What workers are told.
    "hosts": (
        lambda p: p.variable("CONVOY_HOSTS").update(value="a,b,c,d"),
        "CONVOY_HOSTS is a,b,c,d; give rn50-worker",
    ),
    "workers": (lambda p: p.variable("CONVOY_WORKERS").update(value="3"), "CONVOY_WORKERS is 3; give 4"),
    "job": (lambda p: p.variable("CONVOY_JOB").update(value="x"), "CONVOY_JOB is x; give rn50"),
    "grace": (lambda p: p.pod.update(terminationGracePeriodSeconds=10), "but pods are killed after 10 s"),
    # A slice.
    "half_a_slice": (
        lambda p: p.job.update(completions=2, parallelism=2),
        "2 workers with 4 TPU chips each are not the 16",
    ),
    "no_topology": (
        lambda p: p.pod["nodeSelector"].pop("cloud.google.com/gke-tpu-topology"),
        "the 0 of topology (none)",
    ),
    # Nodes.
    "spot_and_reserved": (
        lambda p: p.pod["nodeSelector"].update(
            {"cloud.google.com/gke-spot": "true", "cloud.google.com/reservation-name": "mine"}
        ),
        "no machine is both spot and reserved",
    ),
    "selector": (lambda p: p.pod["nodeSelector"].update(zone="a/b"), "zone=a/b is no label"),
    "taint": (lambda p: p.pod.pop("tolerations"), "nodes with google.com/tpu keep away pods"),
    "account": (lambda p: p.pod.update(serviceAccountName="A"), "serviceAccountName A is not possible"),
    "priority": (lambda p: p.pod.update(priorityClassName="very high"), "priorityClassName very high is not possible"),
    # Containers.
    "image": (lambda p: p.container.update(image="my image"), "`my image` is no image"),
    "variable_twice": (
        lambda p: p.container["env"].append({"name": "HOME", "value": "/tmp"}),
        "a variable is set twice",
    ),
    "variable_name": (
        lambda p: p.container["env"].append({"name": "A=B", "value": ""}),
        "`A=B` is no name of a variable",
    ),
    "home": (lambda p: p.variable("HOME").update(value="/root"), "HOME=/root cannot be written to"),
    "word_too_long": (lambda p: p.container["command"].append("x" * 2**17), "has 131072 bytes, and Linux passes fewer"),
    "word_with_nul": (lambda p: p.container["command"].append("a\0b"), "is no text that a process can be given"),
    "word_of_no_text": (lambda p: p.container["command"].append("a\udc80"), "is no text that a process can be given"),
    "no_volume": (
        lambda p: p.container["volumeMounts"].append({"name": "x", "mountPath": "/x"}),
        "there is no volume x",
    ),
    "volume_twice": (
        lambda p: p.pod["volumes"].append({"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}),
        "have one name",
    ),
    "mounted_twice": (
        lambda p: p.container["volumeMounts"].append({"name": "tmp", "mountPath": "/dev/shm"}),
        "two volumes are mounted on one of",
    ),
    "quantity": (lambda p: p.resources["requests"].update(cpu="4 cores"), "cpu: 4 cores is no quantity"),
    "more_than_it_may": (
        lambda p: p.resources["requests"].update(memory="1Ti"),
        "it asks for 1Ti of memory and may have",
    ),
    "half_a_chip": (
        lambda p: p.resources["requests"].update({"google.com/tpu": 2}),
        "google.com/tpu is given out whole",
    ),
    "shared_memory": (
        lambda p: p.volume("dshm")["emptyDir"].update(sizeLimit="1Ti"),
        "give the volume a sizeLimit below",
    ),
    "shared_memory_unbounded": (lambda p: p.volume("dshm")["emptyDir"].pop("sizeLimit"), "give the volume a sizeLimit"),
    "disk_unbounded": (lambda p: p.volume("tmp")["emptyDir"].pop("sizeLimit"), "volume tmp may fill the node's disk"),
    "more_disk_than_the_pod_has": (
        lambda p: p.resources["limits"].update({"ephemeral-storage": "1Gi"}),
        "volume tmp may have 10Gi, the pod 1Gi of the node's disk",
    ),
    # Who may connect.
    "policy_of_other_pods": (
        lambda p: p.policy["podSelector"].update(matchLabels={"app": "rn50"}),
        "network policy rn50 is of other pods",
    ),
    "policy_that_cuts_off_the_bucket": (
        lambda p: p.policy["policyTypes"].append("Egress"),
        "keeps its workers from their bucket",
    ),
    "policy_that_lets_all_in": (lambda p: p.policy["ingress"][0].pop("from"), "lets others than its peers in"),
    "policy_that_lets_others_in": (
        lambda p: p.policy["ingress"].append({"from": [{"namespaceSelector": {}}]}),
        "lets others than its peers in",
    ),
    "policy_that_lets_nobody_in": (lambda p: p.policy.pop("ingress"), "or not all of these"),
    "policy_of_one_port": (
        lambda p: p.policy["ingress"][0].update(ports=[{"protocol": "TCP", "port": 2222}]),
        "opens some ports, and collectives take any",
    ),
    # Restricted Pod Security, and what training can do without besides.
    "token": (lambda p: p.pod.pop("automountServiceAccountToken"), "it would carry a token"),
    "host_network": (lambda p: p.pod.update(hostNetwork=True), "it would share the node's (hostNetwork)"),
    "host_path": (
        lambda p: p.pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "volume x is a folder of the node",
    ),
    "root": (lambda p: p.pod["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "user_0": (lambda p: p.container["securityContext"].update(runAsUser=0), "may run as root"),
    "seccomp": (lambda p: p.pod["securityContext"].pop("seccompProfile"), "may make any system call"),
    "escalation": (lambda p: p.container["securityContext"].pop("allowPrivilegeEscalation"), "may gain rights"),
    "privileged": (lambda p: p.container["securityContext"].update(privileged=True), "may gain rights"),
    "capabilities": (lambda p: p.container["securityContext"].pop("capabilities"), "keeps capabilities"),
    "added_capability": (
        lambda p: p.container["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        "keeps capabilities",
    ),
    "own_files": (
        lambda p: p.container["securityContext"].update(readOnlyRootFilesystem=False),
        "may change its own files",
    ),
}

# What one mistake makes wrong besides.
ALSO = {
    "exclusive_but_not_indexed": 2,
    "not_indexed": 2,
    "subdomain": 2,  # the hosts
    "half_a_slice": 3,  # CONVOY_WORKERS, CONVOY_HOSTS
    "two_replicated_jobs_of_one_name": 1,
}


@pytest.mark.parametrize("case", JOBSET)
def test_a_jobset(case):
    change, sentence = JOBSET[case]
    parts = Parts(rendered())
    change(parts)
    problems = lint(parts.documents)
    assert len(problems) == ALSO.get(case, 1), problems
    assert any(sentence in problem for problem in problems), problems
    assert all(problem.startswith(("JobSet ", "ServiceAccount ")) and problem.endswith(".") for problem in problems)


def without_service(parts: Parts) -> None:
    parts.documents.pop(2)


INDEXED: dict[str, Callable[[Parts], object]] = {
    "no_service": without_service,
    "no_subdomain": lambda p: p.pod.pop("subdomain"),
    "service_with_an_address": lambda p: p.documents[2]["spec"].pop("clusterIP"),
    "service_of_ready_pods": lambda p: p.documents[2]["spec"].pop("publishNotReadyAddresses"),
    "service_of_other_pods": lambda p: p.documents[2]["spec"].update(selector={"app": "rn50"}),
}


@pytest.mark.parametrize("case", INDEXED)
def test_a_job_without_names(case):
    parts = Parts(rendered("indexed"))
    INDEXED[case](parts)
    assert any("no headless Service gives its workers names" in problem for problem in lint(parts.documents))


def test_the_name_of_a_service():
    parts = Parts(rendered("indexed"))
    parts.documents[2]["metadata"]["name"] = "1st"
    assert any(problem.startswith("Service 1st: the name is not possible") for problem in lint(parts.documents))


def test_the_port_where_tensorflow_s_workers_meet_is_open():
    words = [
        "--target=k8s",
        "--name=rn50",
        "--image=registry.example.com/convoy:1",
        "--",
        "--run_dir=gs://bucket/runs/one",
    ]
    parts = Parts(manifest.render(from_argv(words)))
    assert lint(parts.documents) == []
    parts.policy["ingress"][0]["ports"][0]["port"] = 2223
    (problem,) = lint(parts.documents)
    assert problem == "JobSet rn50: network policy rn50 keeps peers from port 2222; add it."
