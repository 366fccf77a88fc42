"""Documents for Kubernetes: what is rendered, held against schemas and a cluster's rules."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import accelerators, exits
from convoy.launch import render, worker
from convoy.launch.build import build
from convoy.launch.command_line import from_argv
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.options import job_options
from convoy.trainer.config import RunConfig
from crds import JOBSET_VERSIONS, jobset_errors
from kube_documents import KUBERNETES_VERSIONS, assert_valid, container, expanded, owner

GOLDEN = Path(__file__).parent / "golden"
IMAGE = f"us-docker.pkg.dev/project/convoy/convoy@sha256:{'0123456789abcdef' * 4}"
TRAIN = "-- --run_dir=gs://bucket/runs/one --dataset=cifar10"
CASES = {
    "cpu": TRAIN,
    "cpu_indexed": f"--gang=indexed --workers=3 --cpus=1.5 --memory=6Gi {TRAIN} --batch_size=96",
    "t4_spot": f"--accelerator=t4 --workers=2 --spot --cpus=3 --memory=12Gi {TRAIN}",
    "l4x4": f"--accelerator=l4x4 --workers=4 {TRAIN} --model=resnet50 --batch_size=1024",
    "l4x4_queue": f"--accelerator=l4x4 --workers=4 --queue=team --priority=medium --hours=12 {TRAIN}",
    "l4x2_indexed_queue": f"--accelerator=l4x2 --workers=2 --gang=indexed --queue=team {TRAIN}",
    "h100x8_reserved": f"--accelerator=h100x8 --workers=2 --reservation=mine --priority=high --max_restarts=3 {TRAIN}",
    "l4_on_a_larger_machine": f"--accelerator=l4@g2-standard-16 {TRAIN}",
    "a100_account": f"--accelerator=a100 --namespace=ml --service_account=trainer --memory=64Gi {TRAIN}",
    "v5e_1": f"--accelerator=v5e-1 {TRAIN} --backend=jax",
    "v5e_16": f"--accelerator=v5e-16 {TRAIN} --backend=jax",
    "v5e_8_two_machines": f"--accelerator=v5e-8@4t --spot {TRAIN} --backend=jax",
    "v6e_16_indexed": f"--accelerator=v6e-16 --gang=indexed {TRAIN} --backend=jax",
    "v5p_topology": f"--accelerator=v5p --topology=2x2x2 --queue=tpus {TRAIN} --backend=jax",
    "quoting": """--workers=2 -- --run_dir='gs://bucket/it'"'"'s "$(HOME)" $$ {{ x }} `id` # é' --data_dir='/tmp/-- ; |&'""",
    "claims": "--cpu_limit=2 --volume=photos:/data,weights:/weights,/image -- --dataset=folder:/data/cats --image_size=96"
    " --pretrained=/weights/model.safetensors --run_dir=gs://bucket/runs/one",
}


def argv(case: str) -> list[str]:
    return ["--target=k8s", "--name=rn50", f"--image={IMAGE}", *shlex.split(CASES[case])]


def spec(case: str) -> JobSpec:
    return from_argv(argv(case))


@pytest.mark.parametrize("case", CASES)
def test_documents_are_what_they_were(case, capsys):
    """The verb prints them and nothing else. CONVOY_UPDATE_GOLDEN=1 rewrites the files; the digest is not in them."""
    assert render.render(argv(case)) == exits.OK
    printed = capsys.readouterr()
    assert not printed.err
    # Digits have quotes, letters need none.
    text = re.sub(f'"?{spec(case).digest}"?', "DIGEST", printed.out)
    golden = GOLDEN / f"{case}.yaml"
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_is_of_a_case():
    assert sorted(place.stem for place in GOLDEN.glob("*.yaml")) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_documents_are_valid(case):
    assert_valid(manifest.render(spec(case)))


def test_the_strict_schemas_refuse_misspelled_fields():
    from kube_schemas import errors

    rendered = manifest.render(spec("l4x4"))
    owner(rendered)["spec"]["ttlSecondsAfterFinish"] = 1
    container(rendered)["imagePullPolice"] = "Always"
    owner(rendered)["spec"]["failurePolicy"]["restartStrategy"] = "Sometimes"
    owner(rendered)["spec"]["failurePolicy"]["maxRestarts"] = 2**31
    for version in JOBSET_VERSIONS:
        problems = "\n".join(jobset_errors(version, owner(rendered)))
        for word in ("ttlSecondsAfterFinish", "imagePullPolice", "Sometimes", str(2**31)):
            assert word in problems
    [*_, service, _job] = manifest.render(spec("cpu_indexed"))
    service["spec"]["selectors"] = {}
    assert "selectors" in "".join(errors(service, KUBERNETES_VERSIONS[0]))


def test_rendering_is_pure():
    first = manifest.render(spec("l4x4"))
    kept = json.dumps(first)
    container(manifest.render(spec("l4x4")))["env"].clear()
    assert json.dumps(manifest.render(spec("l4x4"))) == kept
    assert json.dumps(first) == kept


@pytest.mark.parametrize("case", ["l4x4", "l4x2_indexed_queue"])
def test_exit_codes_that_are_worth_a_restart(case):
    """42, and 128 and above but for 130; every other code ends the job, even one that nobody has thought of."""
    rendered = manifest.render(spec(case))
    disruption, codes = documents.job_spec(owner(rendered))["podFailurePolicy"]["rules"]
    # The first rule that fits counts: exit codes are not asked of a pod that was preempted.
    assert disruption == {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert codes["action"] == "FailJob"
    assert codes["onExitCodes"]["operator"] == "NotIn"
    assert codes["onExitCodes"]["containerName"] == container(rendered)["name"] == manifest.CONTAINER
    again = {code for code in range(1, 256) if code in codes["onExitCodes"]["values"]}
    assert again == {exits.TRY_AGAIN, *range(128, 256)} - {exits.STOPPED}
    for code in (exits.BUG, exits.USAGE, 64, exits.BAD_DATA, exits.DIVERGED, exits.CANNOT_RUN, 126, 127):
        assert code not in again


def test_a_jobset_acts_on_the_reason_why_its_job_failed():
    rules = owner(manifest.render(spec("l4x4")))["spec"]["failurePolicy"]["rules"]
    acts = {rule["onJobFailureReasons"][0]: rule["action"] for rule in rules}
    assert acts == {
        "PodFailurePolicy": "FailJobSet",
        "DeadlineExceeded": "FailJobSet",
        "BackoffLimitExceeded": "RestartJobSet",
    }
    assert not any("onJobFailureMessagePatterns" in rule for rule in rules), "JobSet before 0.10 would not know it"


@pytest.mark.parametrize("case", CASES)
def test_a_worker_understands_the_rendered_environment(case):
    """The environment of each pod, as Kubernetes makes it of the documents, names the host that the pod will have."""
    job, rendered = spec(case), manifest.render(spec(case))
    values = {
        variable["name"]: expanded(variable["value"], {})
        for variable in container(rendered)["env"]
        if "value" in variable
    }
    for index in range(job.workers):
        place = worker.from_environment(values | {"JOB_COMPLETION_INDEX": str(index), "CONVOY_RESTART_ATTEMPT": "2"})
        middle = "" if job.options.gang == "indexed" else "-worker-0"
        assert place.hosts[index] == f"rn50{middle}-{index}.rn50:2222"
        assert place.grace_seconds == manifest.GRACE_SECONDS
    assert container(rendered)["ports"][0]["containerPort"] == manifest.PORT
    assert values.items() >= manifest.environment(job, manifest.hosts(job)).items()


def test_both_bases_run_the_same_pods():
    jobset, indexed = (owner(manifest.render(spec(case))) for case in ("l4x4", "l4x2_indexed_queue"))
    ours, theirs = (documents.job_spec(documents.base(name)) for name in ("jobset/jobset.yaml", "indexed/job.yaml"))
    del theirs["ttlSecondsAfterFinished"], theirs["template"]["spec"]["subdomain"]
    for job in (ours, theirs):
        env = job["template"]["spec"]["containers"][0]["env"]
        env[:] = [
            variable["name"]
            if variable["name"] in ("CONVOY_HOSTS", "CONVOY_RESTART_ATTEMPT", "CONVOY_WRITER")
            else variable
            for variable in env
        ]
    assert ours == theirs
    assert jobset["spec"]["ttlSecondsAfterFinished"] == indexed["spec"]["ttlSecondsAfterFinished"]


def test_a_queue_admits_a_job_and_without_a_queue_it_starts():
    queued, free = owner(manifest.render(spec("l4x4_queue"))), owner(manifest.render(spec("l4x4")))
    assert queued["spec"]["suspend"] is True
    assert "suspend" not in free["spec"]
    assert (
        queued["metadata"]["labels"].items()
        >= {
            "kueue.x-k8s.io/queue-name": "team",
            "kueue.x-k8s.io/priority-class": "medium",
            "kueue.x-k8s.io/max-exec-time-seconds": str(12 * 3600),
        }.items()
    )
    assert "priorityClassName" not in documents.job_spec(queued)["template"]["spec"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--spot --reservation=mine -- ", "no machine is both spot and reserved"),
        ("--queue='my queue' -- ", "queue-name=my queue is no label"),
        ("--service_account=A/B -- ", "serviceAccountName A/B is not possible"),
        ("--max_restarts=3000000000 -- ", "--max_restarts=3000000000 is not possible"),
        ("--cpus=inf -- ", "--cpus=inf is not possible"),
        ("--volume=a:/tmp -- ", "two volumes are mounted on one of /tmp, /dev/shm, /tmp"),
        ("-- --data_dir=\udcff ", "has the invisible character U+DCFF"),
        ("--workers=4000 -- --batch_size=4000 ", "give the job a shorter name"),
    ],
)
def test_documents_that_no_cluster_would_take_are_refused(flags, sentence):
    words = ["--target=k8s", f"--name={'n' * 40}", f"--image={IMAGE}", *shlex.split(flags), "--run_dir=gs://b/r"]
    with pytest.raises(exits.CannotRun, match=re.escape(sentence)):
        manifest.render(from_argv(words))


def test_an_unknown_machine_needs_flags():
    job = spec("l4x4")
    unknown = dataclasses.replace(job, accelerator=dataclasses.replace(job.accelerator, vcpus=None))
    with pytest.raises(exits.CannotRun, match="--cpus is missing: nothing is known of the machine"):
        manifest.render(unknown)
    unknown = dataclasses.replace(job, accelerator=dataclasses.replace(job.accelerator, gke_label=""))
    with pytest.raises(exits.CannotRun, match="has no nodes of that kind"):
        manifest.render(unknown)


def any_job(which, workers, name, gang, queue, priority, taken, memory, cpus) -> JobSpec:
    known = accelerators.resolve(*which)
    workers = known.hosts if known.kind == "tpu" else workers
    options = job_options()(
        target="k8s", accelerator=which[0], topology=which[1], workers=workers, name=name, image=IMAGE, gang=gang,
        queue=queue, priority=priority, memory=memory or ("" if known.memory_gib else "8Gi"),
        cpus=cpus or (0.0 if known.vcpus else 4.0), **taken,
    )  # fmt: skip
    return build(options, RunConfig(run_dir="gs://b/r", backend="jax", batch_size=64 * workers))


JOBS = st.builds(
    any_job,
    which=st.sampled_from([("cpu", ""), *sorted({(chips.name, chips.topology) for chips in accelerators.all_of()})]),
    workers=st.sampled_from([1, 2, 3, 7, 64]),
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True),
    gang=st.sampled_from(["jobset", "indexed"]),
    queue=st.sampled_from(["", "team"]),
    priority=st.sampled_from(["", "high"]),
    taken=st.sampled_from([{}, {"spot": True}, {"reservation": "mine"}]),
    memory=st.sampled_from(["", "64Mi", "64Gi"]),
    cpus=st.sampled_from([0.0, 0.25, 12.0]),
)


def assert_job_is_valid(job: JobSpec) -> None:
    machine = job.accelerator
    if machine.kind != "cpu" and not machine.gke_label:
        with pytest.raises(exits.CannotRun, match="no nodes of that kind"):
            manifest.render(job)
        return
    if len(",".join(manifest.hosts(job))) >= 2**17:  # more than Linux passes to a process in one variable
        with pytest.raises(exits.CannotRun, match="give the job a shorter name"):
            manifest.render(job)
        return
    rendered = manifest.render(job)
    assert_valid(rendered, KUBERNETES_VERSIONS[-1:])
    limits = container(rendered)["resources"]["limits"]
    assert limits.get("google.com/tpu", 0) * job.workers == (machine.chips if machine.kind == "tpu" else 0)
    assert limits.get("nvidia.com/gpu", 0) == (machine.chips if machine.kind == "gpu" else 0)
    assert documents.job_spec(owner(rendered))["completions"] == len(manifest.hosts(job)) == job.workers


@settings(max_examples=25, deadline=None)
@given(JOBS)
def test_any_job_is_valid(job):
    assert_job_is_valid(job)


@pytest.mark.parametrize("letters", [20, 21])
def test_the_hosts_of_the_largest_slice_fit_into_a_variable_or_the_name_is_too_long(letters):
    assert_job_is_valid(any_job(("tpu7x-18304", "4x44x52"), 1, "a" * letters, "jobset", "", "", {}, "", 0.0))


@pytest.mark.thorough
@settings(max_examples=400, deadline=None)
@given(JOBS)
def test_many_jobs_are_valid(job):
    assert_job_is_valid(job)


@pytest.mark.parametrize(("case", "kept"), [("l4x4", True), ("t4_spot", False), ("l4x2_indexed_queue", True)])
def test_autoscalers_leave_workers_alone_except_on_spot_machines(case, kept):
    template = documents.job_spec(owner(manifest.render(spec(case))))["template"]
    annotations = template["metadata"].get("annotations", {})
    assert annotations == ({"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"} if kept else {})
