"""A job -> its documents for Kubernetes: the base of k8s/, parsed and edited. A pure function; nothing here meets a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable

from convoy import exits
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes.documents import Object, base, job_spec
from convoy.launch.targets.kubernetes.lints import EXCLUSIVE, lint
from convoy.launch.targets.kubernetes.options import KubernetesOptions, KubernetesPlace, Volume
from convoy.launch.targets.kubernetes.pod_lints import GOOGLE

PORT = 2222
GRACE_SECONDS = 120
CONTAINER = "trainer"
REPLICATED_JOB = "worker"
# Annotations that identify what was submitted; a document applied by hand has no digest.
DIGEST, RUN_DIR = "convoy/spec-digest", "convoy/run-dir"
INSTANCE = "app.kubernetes.io/instance"
QUEUE, QUEUE_PRIORITY, QUEUE_SECONDS = (
    f"kueue.x-k8s.io/{name}" for name in ("queue-name", "priority-class", "max-exec-time-seconds")
)

_BASE = {
    "jobset": ("service-account/service_account.yaml", "jobset/network_policy.yaml", "jobset/jobset.yaml"),
    "indexed": (
        "service-account/service_account.yaml",
        "indexed/network_policy.yaml",
        "indexed/service.yaml",
        "indexed/job.yaml",
    ),
}
# The share of a machine that a worker requests; the rest is for the node's own daemons.
_OF_CPUS, _OF_MEMORY = 0.85, 0.8
# The limit of /dev/shm: a share of the memory, and a maximum.
_OF_SHARED, _MAX_SHARED_MIB = 0.25, 16 * 1024
_MIB = {"Mi": 1, "Gi": 1024}


def render(spec: JobSpec) -> list[Object]:
    """The documents of a job, in the order in which they are created; the last is the JobSet or Job itself.

    The first is the service account that all jobs of a namespace share, unless --service_account names another.

    Raises:
      exits.CannotRun: documents that no cluster would create, or no node would run.
    """
    if not spec.options.image:
        raise exits.CannotRun("--image is missing; give the image that k8s/Dockerfile builds, best by digest.")
    given = spec.options.narrowed(KubernetesOptions)
    objects = [base(name) for name in _BASE[given.gang]]
    owner = objects[-1]
    for thing in objects:
        thing["metadata"]["namespace"] = spec.options.narrowed(KubernetesPlace).namespace
        if INSTANCE in thing["metadata"]["labels"]:
            thing["metadata"]["name"] = thing["metadata"]["labels"][INSTANCE] = spec.name
        if thing["kind"] == "Service":
            thing["spec"]["selector"]["batch.kubernetes.io/job-name"] = spec.name
        if thing["kind"] == "NetworkPolicy":
            _policy(thing, spec)
    owner["metadata"]["annotations"] = {RUN_DIR: spec.run.run_dir, DIGEST: spec.digest}
    if owner["kind"] == "JobSet":
        owner["spec"]["network"]["subdomain"] = spec.name
        owner["spec"]["failurePolicy"]["maxRestarts"] = spec.options.max_restarts
        if spec.accelerator.kind == "tpu" and spec.workers > 1:
            # A slice is a node pool of its own, and one job has to take all of it.
            owner["metadata"]["annotations"][EXCLUSIVE] = f"{GOOGLE}/gke-nodepool"
    job = job_spec(owner)
    job["completions"] = job["parallelism"] = spec.workers
    job["activeDeadlineSeconds"] = _seconds(spec)
    pod = job["template"]["spec"]
    job["template"]["metadata"]["labels"][INSTANCE] = spec.name
    if spec.options.spot:
        # The annotations forbid eviction, and GKE Autopilot starts no spot machine for such a pod.
        del job["template"]["metadata"]["annotations"]
    if "subdomain" in pod:
        pod["subdomain"] = spec.name
    _container(pod["containers"][0], spec)
    _resources(pod, spec)
    _volumes(pod, given.volumes)
    _place(pod, spec)
    _admission(owner, pod, spec)
    if given.network_policy == "off":
        objects = [thing for thing in objects if thing["kind"] != "NetworkPolicy"]
    if spec.options.service_account:
        pod["serviceAccountName"] = spec.options.service_account
        objects = [thing for thing in objects if thing["kind"] != "ServiceAccount"]
    if problems := lint(objects):
        raise exits.CannotRun(problems[0])
    return objects


def command(spec: JobSpec) -> list[str]:
    """The command of a worker, in exec form: no shell reads it."""
    return ["python", "-P", "-m", "convoy.launch.worker", "--", *spec.train_flags]


def hosts(spec: JobSpec) -> list[str]:
    """The host name of each worker's pod within its namespace."""
    pod = spec.name if spec.options.narrowed(KubernetesOptions).gang == "indexed" else f"{spec.name}-{REPLICATED_JOB}-0"
    return [f"{pod}-{index}.{spec.name}" for index in range(spec.workers)]


def environment(spec: JobSpec, hosts: Iterable[str]) -> dict[str, str]:
    """The variables of every worker of a job. Kubernetes adds JOB_COMPLETION_INDEX, the worker's index from 0.

    The document takes CONVOY_RESTART_ATTEMPT, how often the job began again, from a label of the pod.
    """
    return {
        "CONVOY_JOB": spec.name,
        "CONVOY_WORKERS": str(spec.workers),
        "CONVOY_HOSTS": ",".join(hosts),
        "CONVOY_PORT": str(PORT),
        "CONVOY_GRACE_SECONDS": str(GRACE_SECONDS),
    }


def _policy(policy: Object, spec: JobSpec) -> None:
    """Opens the one port of TensorFlow on CPUs to peers, and all ports where collectives choose theirs."""
    (rule,) = policy["spec"]["ingress"]
    (peers,) = rule["from"]
    for selector in (policy["spec"]["podSelector"], peers["podSelector"]):
        selector["matchLabels"] = dict.fromkeys(selector["matchLabels"], spec.name)
    if spec.accelerator.kind != "cpu" or spec.run.backend != "tensorflow":
        del rule["ports"]


def _container(container: Object, spec: JobSpec) -> None:
    container["image"] = spec.options.image
    # Kubernetes replaces $(NAME) in commands and variables, and reads $$ as $.
    container["command"] = [_literal(word) for word in command(spec)]
    values = environment(spec, hosts(spec))
    for variable in container["env"]:
        if variable["name"] in values:
            variable["value"] = _literal(values[variable["name"]])


def _literal(text: str) -> str:
    return text.replace("$", "$$")


def _seconds(spec: JobSpec) -> int:
    return math.ceil(spec.options.hours * 3600)


def _resources(pod: Object, spec: JobSpec) -> None:
    """Sets cores, memory, disk and accelerators of a worker; without a known machine the base's cores and memory stay."""
    given = spec.options.narrowed(KubernetesOptions)
    machine = spec.accelerator
    resources = pod["containers"][0]["resources"]
    requests, limits = resources["requests"], resources["limits"]
    if given.cpus:
        requests["cpu"] = f"{given.cpus:g}"
    elif machine.kind != "cpu":
        requests["cpu"] = str(max(1, math.floor(_OF_CPUS * _known(machine.vcpus, "cpus", spec))))
    if given.cpu_limit:
        limits["cpu"] = f"{given.cpu_limit:g}"
        if float(requests["cpu"]) > given.cpu_limit:
            requests["cpu"] = limits["cpu"]
    if given.memory:
        memory = given.memory
    elif machine.kind != "cpu":
        memory = f"{math.floor(_OF_MEMORY * _known(machine.memory_gib, 'memory', spec))}Gi"
    else:
        memory = limits["memory"]
    requests["memory"] = limits["memory"] = memory
    shared = min(math.floor(_OF_SHARED * int(memory[:-2]) * _MIB[memory[-2:]]), _MAX_SHARED_MIB)
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    volumes["dshm"]["sizeLimit"] = f"{shared // 1024}Gi" if shared >= 1024 else f"{max(1, shared)}Mi"
    scratch = given.scratch or limits["ephemeral-storage"]
    requests["ephemeral-storage"] = limits["ephemeral-storage"] = volumes["tmp"]["sizeLimit"] = scratch
    if given.queue and not given.scratch:
        # Kueue admits no job that requests a resource without a quota in its queue, and few queues have one for disk.
        del requests["ephemeral-storage"], limits["ephemeral-storage"]
    if machine.kind == "gpu":
        requests["nvidia.com/gpu"] = limits["nvidia.com/gpu"] = machine.chips
    elif machine.kind == "tpu":
        requests["google.com/tpu"] = limits["google.com/tpu"] = machine.chips_per_host


def _volumes(pod: Object, volumes: Iterable[Volume]) -> None:
    """Mounts the claims of --volume, to be read: many pods may do that at once."""
    for number, volume in enumerate(volume for volume in volumes if volume.claim_name):
        name = f"volume-{number}"
        source = {"claimName": volume.claim_name, "readOnly": True}
        pod["volumes"].append({"name": name, "persistentVolumeClaim": source})
        mount = {"name": name, "mountPath": volume.folder, "readOnly": True}
        pod["containers"][0]["volumeMounts"].append(mount)


def _known(figure: float | None, flag: str, spec: JobSpec) -> float:
    if not figure:
        raise exits.CannotRun(
            f"--{flag} is missing: nothing is known of the machine of --accelerator={spec.options.accelerator}."
        )
    return figure


def _place(pod: Object, spec: JobSpec) -> None:
    """Chooses the nodes of the workers by labels and taints of Google Kubernetes Engine."""
    given = spec.options
    machine = spec.accelerator
    selector: dict[str, str] = {}
    tolerations: list[Object] = []
    if machine.kind != "cpu" and not machine.gke_label:
        raise exits.CannotRun(f"--accelerator={given.accelerator}: Google Kubernetes Engine has no nodes of that kind.")
    if machine.kind == "gpu":
        selector[f"{GOOGLE}/gke-accelerator"] = machine.gke_label
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    elif machine.kind == "tpu":
        selector[f"{GOOGLE}/gke-tpu-accelerator"] = machine.gke_label
        selector[f"{GOOGLE}/gke-tpu-topology"] = machine.topology
        tolerations.append({"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"})
    if "@" in given.accelerator:
        # The label above fits several machine types; without @ any of them will do.
        selector["node.kubernetes.io/instance-type"] = machine.machine_type
    if given.spot:
        selector[f"{GOOGLE}/gke-spot"] = "true"
        tolerations.append({"key": f"{GOOGLE}/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    if given.reservation:
        selector[f"{GOOGLE}/reservation-name"] = given.reservation
        selector[f"{GOOGLE}/reservation-affinity"] = "specific"
    if selector:
        pod["nodeSelector"] = selector
    if tolerations:
        pod["tolerations"] = tolerations


def _admission(owner: Object, pod: Object, spec: JobSpec) -> None:
    """Leaves start and priority to Kueue if there is a queue, else to the scheduler."""
    given = spec.options.narrowed(KubernetesOptions)
    if given.queue:
        # Only Kueue starts a suspended job.
        owner["spec"] = {"suspend": True, **owner["spec"]}
        owner["metadata"]["labels"] |= {QUEUE: given.queue, QUEUE_SECONDS: str(_seconds(spec))}
        if given.priority:
            owner["metadata"]["labels"][QUEUE_PRIORITY] = given.priority
    elif given.priority:
        pod["priorityClassName"] = given.priority
