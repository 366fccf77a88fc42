"""Checks for documents that their schemas allow, but that a cluster refuses or never starts.

The rules are those of Kubernetes' own validation, JobSet's webhook, the restricted Pod Security standard and Google Kubernetes
Engine's node pools, from their documentation and sources; no cluster was asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from convoy.launch.targets.kubernetes import pod_lints
from convoy.launch.targets.kubernetes.documents import Object, job_specs
from convoy.launch.targets.kubernetes.pod_lints import GOOGLE, LABEL, LONGEST, SUBDOMAIN

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # of DNS (RFC 1035): Services, and what becomes a host
_RULE = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy")
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
_QUEUE = "kueue.x-k8s.io/queue-name"
_INT32 = 2**31 - 1
_SUFFIX = "-xxxxx"  # of a pod's name, random
_ANNOTATIONS_BYTES = 256 * 1024


def lint(objects: Iterable[Object]) -> list[str]:
    """A sentence for each problem; none if the documents can be created, and can start together."""
    objects = list(objects)
    problems = []
    for thing in objects:
        checks = [_metadata(thing)]
        if thing["kind"] == "JobSet":
            checks.append(_jobset(thing))
        if thing["kind"] in ("Job", "JobSet"):
            checks.append(_queue(thing))
            for prefix, job in job_specs(thing):
                checks += [_job(job), _policy(job), _names(prefix, job), _slice(job)]
                checks += [_peers(prefix, job, thing, objects), pod_lints.check(job["template"]["spec"])]
                checks += [_reach(policy, job, thing) for policy in objects if policy["kind"] == "NetworkPolicy"]
        subject = f"{thing['kind']} {thing['metadata']['name']}"
        problems += [f"{subject}: {sentence}" for check in checks for sentence in check]
    return problems


def _metadata(thing: Object) -> Iterator[str]:
    metadata = thing["metadata"]
    shape = SUBDOMAIN if thing["kind"] == "ServiceAccount" else _NAME
    if not shape.fullmatch(metadata["name"]):
        yield f"the name is not possible; give at most {LONGEST} small letters, digits and dashes, a letter first."
    if not LABEL.fullmatch(metadata.get("namespace", "default")):
        yield f"there can be no namespace `{metadata['namespace']}`; give small letters, digits and dashes."
    yield from pod_lints.labels(metadata.get("labels", {}))
    annotations = metadata.get("annotations", {})
    size = sum(len(pod_lints.utf8(key)) + len(pod_lints.utf8(value)) for key, value in annotations.items())
    if size > _ANNOTATIONS_BYTES:
        yield f"the annotations have {size} bytes, and Kubernetes takes {_ANNOTATIONS_BYTES}; give shorter ones."


def _jobset(owner: Object) -> Iterator[str]:
    spec = owner["spec"]
    names = [job["name"] for job in spec["replicatedJobs"]]
    if len(set(names)) < len(names):
        yield f"two of the replicated jobs {', '.join(names)} have one name; give each its own."
    failure = spec.get("failurePolicy", {})
    if failure.get("maxRestarts", 0) > _INT32:
        yield f"maxRestarts {failure['maxRestarts']} is more than {_INT32}; give less."
    rules = failure.get("rules", [])
    rule_names = [rule["name"] for rule in rules]
    if len(set(rule_names)) < len(rule_names):
        yield f"two of the rules {', '.join(rule_names)} have one name; give each its own."
    for rule in rules:
        if not _RULE.fullmatch(rule["name"]):
            yield f"a rule cannot be called `{rule['name']}`; give letters, digits and underscores, a letter first."
        for reason in rule.get("onJobFailureReasons", []):
            if reason not in _REASONS:
                yield f"rule {rule['name']}: no Job fails for the reason {reason}; there are {', '.join(_REASONS)}."
    for policy in (spec.get("successPolicy", {}), *rules):
        for target in policy.get("targetReplicatedJobs", []):
            if target not in names:
                yield f"a policy targets {target}, but the replicated jobs are {', '.join(names)}; name one of them."
    network = spec.get("network", {})
    if not LABEL.fullmatch(network.get("subdomain", owner["metadata"]["name"])):
        yield f"subdomain {network['subdomain']} is no part of a host's name; give small letters, digits and dashes."
    for switch in ("enableDNSHostnames", "publishNotReadyAddresses"):
        if network.get(switch) is False:
            yield f"workers would wait for one another without a name to call; give {switch}: true."
    for _, job in job_specs(owner):
        if EXCLUSIVE in owner["metadata"].get("annotations", {}) and job.get("completionMode") != "Indexed":
            yield "JobSet gives a topology to Indexed jobs alone; give completionMode: Indexed."


def _queue(owner: Object) -> Iterator[str]:
    queue = owner["metadata"].get("labels", {}).get(_QUEUE)
    if owner["spec"].get("suspend") and not queue:
        yield f"it is suspended, and no queue would ever start it; take suspend away or give it the label {_QUEUE}."
    if queue and not owner["spec"].get("suspend"):
        yield f"it is for queue {queue}, but would start before Kueue admits it; give suspend: true."


def _job(job: Object) -> Iterator[str]:
    if job.get("completionMode") != "Indexed":
        yield "its workers would have no numbers; give completionMode: Indexed."
    if job["parallelism"] != job["completions"]:
        yield (
            f"{job['parallelism']} of its {job['completions']} workers would run and wait for the others; give"
            f" parallelism: {job['completions']}."
        )
    if job.get("backoffLimit") != 0:
        yield "a worker would be started again beside peers that have lost it; give backoffLimit: 0."
    if not 0 < job.get("activeDeadlineSeconds", 1) <= _INT32:
        yield f"activeDeadlineSeconds: {job['activeDeadlineSeconds']} is not possible; give 1 to {_INT32}."
    yield from pod_lints.labels(job["template"].get("metadata", {}).get("labels", {}))


def _policy(job: Object) -> Iterator[str]:
    if "podFailurePolicy" not in job:
        return
    pod = job["template"]["spec"]
    # JobSet's default is OnFailure, so that none is as wrong.
    if pod.get("restartPolicy") != "Never":
        yield "a podFailurePolicy needs pods that do not restart by themselves; give restartPolicy: Never."
    if job.get("podReplacementPolicy", "Failed") != "Failed":
        yield "with a podFailurePolicy pods are replaced only once they have failed; give podReplacementPolicy: Failed."
    containers = [container["name"] for container in pod["containers"]]
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {})
        values = codes.get("values", [])
        if codes.get("containerName", containers[0]) not in containers:
            yield f"a rule is for container {codes['containerName']}, but there is {', '.join(containers)}; name that."
        if values != sorted(set(values)) or len(values) > 255:
            yield "the exit codes of a rule are not in order, or too many; give up to 255, each once, the smallest first."
        if 0 in values and codes["operator"] == "In":
            yield "a rule is for exit code 0, which is no failure; take it away."


def _names(prefix: str, job: Object) -> Iterator[str]:
    longest = f"{prefix}-{job['completions'] - 1}{_SUFFIX}"
    if len(longest) > LONGEST:
        yield (
            f"a pod would be called {longest}, {len(longest)} characters where {LONGEST} are possible; give a name that is"
            f" {len(longest) - LONGEST} shorter."
        )


def _slice(job: Object) -> Iterator[str]:
    """Whether pods take all chips of their machines, and the job all machines of its slice."""
    pod = job["template"]["spec"]
    each = pod["containers"][0].get("resources", {}).get("limits", {}).get("google.com/tpu", 0)
    topology = pod.get("nodeSelector", {}).get(f"{GOOGLE}/gke-tpu-topology", "")
    chips = math.prod(int(side) for side in topology.split("x")) if topology else 0
    if chips != each * job["completions"]:
        yield (
            f"{job['completions']} workers with {each} TPU chips each are not the {chips} of topology {topology or '(none)'};"
            " a slice is taken whole."
        )


def _peers(prefix: str, job: Object, owner: Object, objects: list[Object]) -> Iterator[str]:
    """Whether the names by which workers look for each other are right."""
    pod = job["template"]["spec"]
    name = owner["metadata"]["name"]
    workers = job["completions"]
    if owner["kind"] == "JobSet":
        subdomain = owner["spec"].get("network", {}).get("subdomain", name)
    else:
        subdomain = pod.get("subdomain", "")
        if not any(_gives_names(thing, subdomain, name) for thing in objects):
            yield (
                f"no headless Service gives its workers names; add one with clusterIP: None, publishNotReadyAddresses: true"
                f" and the selector batch.kubernetes.io/job-name: {name}, and write its name as the pods' subdomain."
            )
    hosts = ",".join(f"{prefix}-{index}.{subdomain}" for index in range(workers))
    values = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0].get("env", [])}
    for variable, expected in (("CONVOY_JOB", name), ("CONVOY_WORKERS", str(workers)), ("CONVOY_HOSTS", hosts)):
        if values.get(variable) != expected:
            yield f"{variable} is {values.get(variable)}; give {expected}."
    grace = pod.get("terminationGracePeriodSeconds", 30)
    if values.get("CONVOY_GRACE_SECONDS") != str(grace):
        yield f"CONVOY_GRACE_SECONDS is {values.get('CONVOY_GRACE_SECONDS')}, but pods are killed after {grace} s; give that."


def _reach(policy: Object, job: Object, owner: Object) -> Iterator[str]:
    """Whether a network policy selects the job's pods, and lets them reach all that they need."""
    label = "jobset.sigs.k8s.io/jobset-name" if owner["kind"] == "JobSet" else "batch.kubernetes.io/job-name"
    name, own = policy["metadata"]["name"], {"matchLabels": {label: owner["metadata"]["name"]}}
    spec = policy["spec"]
    if spec.get("podSelector") != own:
        yield f"network policy {name} is of other pods; give podSelector: {own}."
    if "Egress" in spec.get("policyTypes", []) or "egress" in spec:
        yield f"network policy {name} keeps its workers from their bucket; leave egress out."
    rules = spec.get("ingress", [])
    if [rule.get("from") for rule in rules] != [[{"podSelector": own}]]:
        yield f"network policy {name} lets others than its peers in, or not all of these; give one rule, from {own}."
    container = job["template"]["spec"]["containers"][0]
    chips = any("/" in resource for resource in container.get("resources", {}).get("limits", {}))
    ports = {port["containerPort"] for port in container.get("ports", [])}
    for opened in (rule["ports"] for rule in rules if "ports" in rule):
        if chips or "--backend=jax" in container.get("command", []):
            yield f"network policy {name} opens some ports, and collectives take any; leave ports out."
        elif not ports <= {port.get("port") for port in opened}:
            yield f"network policy {name} keeps peers from port {min(ports)}; add it."


def _gives_names(thing: Object, subdomain: str, job: str) -> bool:
    return (
        thing["kind"] == "Service"
        and thing["metadata"]["name"] == subdomain
        and thing["spec"].get("clusterIP") == "None"
        and thing["spec"].get("publishNotReadyAddresses") is True
        and thing["spec"].get("selector") in ({"batch.kubernetes.io/job-name": job}, {"job-name": job})
    )
