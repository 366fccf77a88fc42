"""What is sent to clusters and told by them: who may connect, what is installed, which flags and images are refused; what a
cluster, a machine or somebody beside us wrote there is told in a sentence, and a terminal does not obey it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config

import mutations
from convoy import exits, options
from convoy.launch import cli, follow, watch
from convoy.launch.command_line import from_argv
from convoy.launch.targets.base import FAILED, PENDING, RUNNING, SUCCEEDED
from convoy.launch.targets.kubernetes import api as kube_api
from convoy.launch.targets.kubernetes import documents, render
from convoy.launch.targets.kubernetes import errors as kube_errors
from convoy.launch.targets.kubernetes.target import KubernetesTarget
from convoy.launch.targets.options import job_options
from convoy.launch.targets.tpu_vm import bundle
from convoy.store import open_store
from convoy.trainer.config import RunConfig
from kube_handler import failure
from kube_jobs import RUN, SPEC, refusal, spec
from kube_lives import Life
from kube_server import KubeServer
from support import REPOSITORY

ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e"
POLICY = ("networkpolicies", "default", "rn50")
TPU = ["--target=tpu-vm", "--project=p", "--zone=z", "--name=rn50", "--accelerator=v5e-8"]
TPU_RUN = ["--", "--run_dir=gs://b/runs/rn50", "--backend=jax"]


def rendered(capsys, *flags: str, run: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The documents that `convoy launch render` prints."""
    assert render.render([*SPEC, *flags, *RUN, *run]) == exits.OK
    return list(yaml.safe_load_all(capsys.readouterr().out))


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[KubeServer]:
    monkeypatch.setattr(kube_errors, "FIRST_PAUSE_SECONDS", 0.001)
    with KubeServer(lambda *_: []) as server:
        server.groups["networking.k8s.io/v1"] = {"networkpolicies": "NetworkPolicy"}
        config = server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        yield server


@pytest.fixture
def convoy(capsys) -> Callable[..., tuple[int, str]]:
    """Words after `convoy launch` -> (exit code, what was printed, a refusal's sentence too)."""

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        sentence = ""
        try:
            code = cli.LAUNCH(list(words))
        except exits.ConvoyError as error:
            code, sentence = error.code, str(error)
        told = capsys.readouterr()
        return code, told.out + told.err + sentence

    return call


def assert_harmless(told: str) -> None:
    assert all(one.isprintable() or one in "\n\t" for one in told), ascii(told)


# Who may connect


@pytest.mark.parametrize(
    ("flags", "run", "label", "ports"),
    [
        ((), (), "jobset.sigs.k8s.io/jobset-name", [{"protocol": "TCP", "port": 2222}]),
        (("--gang=indexed",), (), "batch.kubernetes.io/job-name", [{"protocol": "TCP", "port": 2222}]),
        # NCCL, Gloo and libtpu listen where the kernel lets them.
        (("--accelerator=l4x4",), (), "jobset.sigs.k8s.io/jobset-name", None),
        ((), ("--backend=jax",), "jobset.sigs.k8s.io/jobset-name", None),
    ],
)
def test_only_peers_may_connect_to_a_worker(capsys, flags, run, label, ports):
    (policy,) = [one for one in rendered(capsys, *flags, run=run) if one["kind"] == "NetworkPolicy"]
    own = {"matchLabels": {label: "rn50"}}
    assert policy["spec"]["podSelector"] == own
    assert policy["spec"]["policyTypes"] == ["Ingress"], "egress is open"
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": own}]
    assert rule.get("ports") == ports


@pytest.mark.parametrize(("gang", "plural"), [("jobset", "jobsets"), ("indexed", "jobs")])
def test_a_policy_comes_and_goes_with_its_job(server, gang, plural):
    target = KubernetesTarget("default", "")
    target.submit(spec(f"--gang={gang}"))
    assert POLICY in server.objects
    (owner,) = server.objects[POLICY]["metadata"]["ownerReferences"]
    assert owner["uid"] == server.one(plural, "rn50")["metadata"]["uid"]
    target.cancel("rn50")
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}
    target.submit(spec(f"--gang={gang}"))
    life = Life(server, "rn50", plural)
    life.condition("Failed") if gang == "indexed" else life.status(terminalState="Failed")
    assert watch.collect(["--target=k8s"]) == exits.OK
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}


def test_who_may_not_create_policies_is_told_how_to_do_without(server, convoy):
    server.forbidden.add(("create", "networkpolicies"))
    code, told = convoy("submit", *SPEC, *RUN)
    assert code == exits.CANNOT_RUN
    assert "cannot create networkpolicies.networking.k8s.io rn50 in namespace default: that is not permitted" in told
    assert "With --network_policy=off the job goes without one" in told
    assert ("jobsets", "default", "rn50") not in server.objects, "no job without what was asked for"
    code, told = convoy("doctor", "--target=k8s", "--gang=indexed")
    assert "create networkpolicies.networking.k8s.io" in told
    assert "or give --network_policy=off." in told
    assert convoy("submit", *SPEC, "--network_policy=off", *RUN)[0] == exits.OK
    assert ("jobsets", "default", "rn50") in server.objects
    assert POLICY not in server.objects
    assert "networkpolicies" not in convoy("doctor", "--target=k8s", "--gang=indexed", "--network_policy=off")[1]


def test_a_policy_of_somebody_else_is_not_taken_for_ours(server):
    meta = {"name": "rn50", "namespace": "default"}
    open_to_all = {"podSelector": {}, "ingress": [{}]}
    server.put({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": open_to_all})
    told = refusal(lambda: KubernetesTarget("default", "").submit(spec()))
    assert told.startswith(
        "there is a network policy rn50 in namespace default that is not this job's; give another --name"
    )
    assert ("jobsets", "default", "rn50") not in server.objects


# What a pod may take, and what is installed


@pytest.mark.parametrize("flags", [(), ("--gang=indexed",), ("--accelerator=l4x4", "--scratch=200Gi"), ("--queue=q",)])
def test_no_pod_fills_the_disk_of_its_node(capsys, flags):
    pod = documents.job_spec(rendered(capsys, *flags)[-1])["template"]["spec"]
    sizes = {volume["name"]: volume["emptyDir"].get("sizeLimit") for volume in pod["volumes"]}
    assert None not in sizes.values()
    scratch = "200Gi" if "--scratch=200Gi" in flags else "10Gi"
    assert sizes["tmp"] == scratch
    resources = pod["containers"][0]["resources"]
    # Kueue admits no job that asks for what its queue has no quota of.
    expected = None if "--queue=q" in flags else scratch
    assert [resources[part].get("ephemeral-storage") for part in ("requests", "limits")] == [expected, expected]


def test_an_image_is_built_upon_a_digest():
    text = (REPOSITORY / "k8s" / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    for line in re.findall(r"^RUN .*pip install.*$", text, re.MULTILINE):
        assert "--require-hashes" in line or "--constraints=requirements.lock" in line


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_machines_install_nothing_without_its_hash(backend):
    from convoy.launch.targets.tpu_vm import request as tpu_request

    with tarfile.open(fileobj=io.BytesIO(bundle.build("resnet18", backend).data)) as tar:
        lists = {name: tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")}
    for text in lists.values():
        for entry in text.replace("\\\n", " ").splitlines():
            assert re.match(r"[\w.-]+(\[\w+\])?==[\w.]+( ;.*?)? +--hash=sha256:[0-9a-f]{64}", entry), entry
    installing = [line for line in tpu_request._INSTALL if "install" in line]
    assert len(installing) == 2
    for line in installing:
        assert "--require-hashes" in line
        (place,) = [word for word in line if word.endswith(".txt")]
        assert line[-1] == place
        assert place.removeprefix("{folder}/") in lists


@pytest.mark.parametrize("verb", ["submit --dry_run"])
def test_the_default_account_of_machines_is_warned_of(convoy, verb):
    code, told = convoy(*verb.split(), *TPU, *TPU_RUN)
    assert code == exits.OK
    assert "without --service_account the machines act as Compute Engine's default account" in told
    assert "https://www.googleapis.com/auth/cloud-platform" in told.partition("give an account")[0]
    assert "default account" not in convoy(*verb.split(), *TPU, "--service_account=a@b", *TPU_RUN)[1]


# Flags


HIDDEN = "\n\r\0\x0b\x0c\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200b\ufeff\udcff"


def texts(*classes: type) -> list[str]:
    return [field.name for field in options.fields(*classes) if isinstance(field.default, str)]


def impossible(words: list[str]) -> exits.ConvoyError:
    with pytest.raises((exits.CannotRun, exits.UsageError)) as found:
        from_argv(words)
    return found.value


@pytest.mark.parametrize("flag", texts(job_options()))
def test_no_flag_of_a_job_has_what_cannot_be_seen(flag):
    """In comments, commands and requests it would begin a line of its own, or hide what a line says."""
    wrong = exits.USAGE if flag in ("target", "gang", "network_policy") else exits.CANNOT_RUN
    for hidden in HIDDEN:
        for place, train in ((SPEC, RUN), (TPU, TPU_RUN)):
            own = [word for word in place if not word.startswith(f"--{flag}=")]
            assert impossible([*own, f"--{flag}=gs://a{hidden}b", *train]).code == wrong, ascii(hidden)


def test_no_flag_of_a_run_has_what_cannot_be_seen():
    for flag in texts(RunConfig):
        for hidden in HIDDEN:
            error = impossible([*SPEC, *RUN, f"--{flag}=gs://a{hidden}b"])
            assert error.code in (exits.USAGE, exits.CANNOT_RUN), (flag, hidden)


@pytest.mark.parametrize(
    "image",
    ["Convoy:1", "a/B", "my image", "-a", "a/-b", "a//b", "a/", "/a", "a:", "a:b:c", "a:-b", f"a:{'t' * 129}", "a@", "a@b",
     "a@sha256:0", f"a@sha256:{'A' * 64}", f"a@md5:{'0' * 64}", f"a@sha256:{'0' * 64}@sha256:{'0' * 64}", "x" * 256, "0" * 64,
     "a_.b", "a._b", "a/../b", "http://a/b", "a:1 --privileged", "a;b", "$(a)", "é", "a:é", "[zz]/a", "a..b/c"],
)  # fmt: skip
def test_an_image_that_no_registry_could_have_is_refused(image):
    error = impossible([*SPEC[:2], f"--image={image}", *RUN])
    assert type(error) is exits.CannotRun
    assert str(error).startswith(f"--image={image}")


@pytest.mark.parametrize(
    "image",
    ["a", "a:1", "localhost:5000/a", "a.b-c.example:5000/d/e_f/g__h--i.j:Tag_1.0-x", f"a@sha256:{'0' * 64}", "[::1]:80/a",
     f"a:1@sha512:{'f' * 128}", f"a:{'t' * 128}", "x" * 255, "UPPER.example/a", "us-docker.pkg.dev/p/q/r@sha256:" + "ab" * 32],
)  # fmt: skip
def test_an_image_that_a_registry_may_have_is_taken(image):
    assert from_argv([*SPEC[:2], f"--image={image}", *RUN]).options.image == image


# What a cluster tells


def test_no_terminal_obeys_what_a_worker_or_a_cluster_prints(server, convoy):
    KubernetesTarget("default", "").submit(spec("--gang=indexed"))
    life = Life(server, "rn50", "jobs")
    life.job["metadata"]["annotations"]["convoy/run-dir"] = f"gs://b/{ESCAPES}"
    life.ready(1)
    server.say(life.pod(0)["metadata"]["name"], f"{ESCAPES}step 1", "10%\r20%\r", "a\tb", over=True)
    code, told = convoy("logs", "--target=k8s", "--name=rn50")
    assert code == exits.OK
    assert_harmless(told)
    assert told.splitlines()[1:] == ["10%", "20%", "a\tb"]
    life.event(life.pod(1, "Pending"), f"pulled {ESCAPES}")
    life.condition("Failed", f"because {ESCAPES}", reason="BackoffLimitExceeded")
    for verb in ("status", "list", "wait"):
        code, told = convoy(verb, "--target=k8s", *(["--name=rn50"] if verb != "list" else []))
        assert "because \\x1b[2J" in told
        assert_harmless(told)
    for status in (403, 422, 400, 500):
        server.fault(status, f"no {ESCAPES}", method="GET", path="jobs", times=1000)
        code, told = convoy("status", "--target=k8s", "--name=rn50")
        assert code != exits.OK
        assert_harmless(told)
        server._faults.clear()
    assert ESCAPES not in str(kube_errors.refusal(422, failure(422, ESCAPES), ATTEMPT))


ATTEMPT = kube_errors.Attempt("get", "jobs.batch", "rn50", "default", "", "http://server")


@pytest.mark.parametrize("odd", ["a label", "restarts", "restarts without end"])
def test_a_job_that_does_not_read_as_one_hides_no_other(server, convoy, odd):
    """It says what no controller writes; anybody who may make pods in the namespace can, some can write its status."""
    target = KubernetesTarget("default", "")
    target.submit(spec())
    target.submit(dataclasses.replace(spec(), options=dataclasses.replace(spec().options, name="other")))
    life = Life(server, "rn50")
    if odd == "a label":
        pod = life.pod(0, "Pending")
        pod["metadata"]["labels"]["jobset.sigs.k8s.io/restart-attempt"] = "many"
        server.put(pod)
    else:
        life.job["status"] = {"restarts": "many" if odd == "restarts" else 10**400}
    code, told = convoy("list", "--target=k8s")
    assert code == exits.OK
    lines = sorted(told.splitlines())
    assert lines[0].startswith("other: pending, its controller has not seen it yet")
    assert lines[1].startswith("rn50: pending, jobset rn50 does not read as a job of Convoy's")
    assert convoy("status", "--target=k8s", "--name=rn50")[0] == exits.BAD_DATA
    assert convoy("gc", "--target=k8s")[0] == exits.OK


@pytest.mark.parametrize("code", [256, "many"])
def test_no_code_of_a_container_makes_a_failure_a_success(server, convoy, code):
    KubernetesTarget("default", "").submit(spec("--gang=indexed"))
    life = Life(server, "rn50", "jobs")
    pod = life.pod(0, "Failed")
    pod["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": code, "reason": "Error"}}}]
    life.condition("Failed", reason="BackoffLimitExceeded")
    told_code, told = convoy("wait", "--target=k8s", "--name=rn50")
    assert told_code in range(1, 256)
    assert told_code in (exits.TRY_AGAIN, exits.BAD_DATA), told


def test_of_a_line_without_end_a_cluster_s_log_has_the_beginning():
    endless = itertools.chain(itertools.repeat(bytes(1 << 20), 20), [b"\nlast"])
    told = list(kube_api._lines(SimpleNamespace(stream=lambda **_: endless)))
    assert [len(line) for line in told] == [1 << 20, 4]


# What machines and their bucket tell


@pytest.fixture
def zone(monkeypatch, tmp_path) -> Iterator[Any]:
    """A zone of Cloud TPU with the job rn50, whose bucket is a folder."""
    from tpu_server import TpuServer

    from convoy.launch.targets.tpu_vm import api as tpu_api
    from convoy.launch.targets.tpu_vm import target as tpu_vm

    with TpuServer() as server:
        target = tpu_vm.TpuVmTarget("p", "z", server.client())
        monkeypatch.setattr(watch, "open_target", lambda *_: target)
        monkeypatch.setattr(tpu_api, "FIRST_PAUSE_SECONDS", 0.001)
        monkeypatch.setattr(bundle, "build", lambda *_: bundle.Bundle(b"code"))
        for name in ("rn50", "other"):
            words = [*TPU[:3], f"--name={name}", TPU[4], f"--bucket={tmp_path}/bucket", *TPU_RUN]
            target.submit(from_argv(words))
            server.resources[name]["state"] = {"state": "ACTIVE"}
            server.nodes[name] = {"name": f"projects/p/locations/z/nodes/{name}", "state": "READY"}
        yield server


STATUS = {"phase": "running", "exit_code": None, "restarts": 0, "reason": "", "updated": 0.0}


def told_by(tmp_path: Path, name: str = "rn50") -> Path:
    place = tmp_path / "bucket" / "jobs" / "p" / "z" / name / "0"
    place.mkdir(parents=True, exist_ok=True)
    return place


def metadata(server: Any, name: str) -> dict[str, str]:
    return server.resources[name]["tpu"]["nodeSpec"][0]["node"]["metadata"]


@pytest.mark.parametrize(
    "status",
    [b"\xff", b"[" * 10_000, b"[]", b'{"phase": "running"', b"{}",
     {"phase": 1}, {"phase": "mine"}, {"restarts": "many"}, {"restarts": -1}, {"restarts": 2**40}, {"reason": None},
     {"updated": "now"}, {"updated": 10**400}, {"updated": -1},
     *({"phase": "ended", "exit_code": code} for code in (256, 2**64, -1, 0.5, True))],
    ids=lambda status: ascii(status)[:40],
)  # fmt: skip
def test_a_worker_s_word_that_is_none_hides_no_other_job(zone, convoy, tmp_path, status):
    """An exit code of 256 would end who waits for the job with 0, as if it had succeeded."""
    data = status if isinstance(status, bytes) else json.dumps(STATUS | status).encode()
    (told_by(tmp_path) / "worker-0.json").write_bytes(data)
    (told_by(tmp_path, "other") / "worker-0.json").write_text(json.dumps(STATUS | {"updated": time.time()}))
    code, told = convoy("list", *TPU[:3])
    assert code == exits.OK
    other, broken = sorted(told.splitlines())
    assert other == "other: running"
    assert broken.startswith("rn50: pending, what its machines told cannot be read: ")
    assert "worker-0.json" in broken
    for verb in ("status", "wait"):
        assert convoy(verb, *TPU[:4])[0] == exits.BAD_DATA
    assert convoy("gc", *TPU[:3])[0] == exits.OK


@pytest.mark.parametrize(
    "changed",
    [{"workers": 10**9}, {"workers": -1}, {"workers": "1"}, {"attempt": "../.."}, {"attempt": -1}, {"folder": "precious"},
     {"folder": "../precious"}, {"folder": "ABSOLUTE"}, {"folder": "jobs/p/z/other"}, {"bucket": None}, {"begun": "now"},
     {"begun": 1e300}, {"begun": -1}, {"attempt": 2**40}, None],
    ids=str,
)  # fmt: skip
def test_a_request_that_is_no_job_of_ours_hides_no_other_and_removes_nothing(zone, convoy, tmp_path, changed):
    """Who may write metadata of machines says where a job's folder is, and `gc` and `cancel` remove that."""
    job = json.loads(metadata(zone, "rn50")["convoy-job"])
    text = "[" if changed is None else json.dumps(job | changed)
    metadata(zone, "rn50")["convoy-job"] = text.replace("ABSOLUTE", f"{tmp_path}/precious")
    for folder in (tmp_path / "bucket" / "precious", tmp_path / "precious"):
        folder.mkdir(exist_ok=True)
        (folder / "marker").touch()
    ended = json.dumps(STATUS | {"phase": "ended", "exit_code": 0})
    (told_by(tmp_path) / "worker-0.json").write_text(ended)
    for precious in ("precious", "../precious"):
        (tmp_path / "bucket" / precious / "0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / precious / "0" / "worker-0.json").write_text(ended)
    with mutations.untouched(tmp_path):
        code, told = convoy("list", *TPU[:3])
        assert code == exits.OK
        assert [line for line in told.splitlines() if line.startswith("other: ")]
        assert [line for line in told.splitlines() if line.startswith("rn50: pending, the metadata convoy-job of")]
        assert convoy("gc", *TPU[:3])[0] == exits.OK
        for verb in ("cancel", "status", "logs"):
            assert convoy(verb, *TPU[:4])[0] == exits.BAD_DATA
    assert not [line for line in zone.requests if line.startswith("DELETE")]


def test_no_terminal_obeys_a_machine(zone, convoy, tmp_path):
    (told_by(tmp_path) / "worker-0.log").write_bytes(f"{ESCAPES}\r10%\r\n".encode())
    code, told = convoy("logs", *TPU[:4])
    assert code == exits.OK
    assert_harmless(told)
    ended = STATUS | {"phase": "ended", "exit_code": 70, "reason": f"diverged {ESCAPES}"}
    (told_by(tmp_path) / "worker-0.json").write_text(json.dumps(ended))
    for verb in (["list", *TPU[:3]], ["status", *TPU[:4]], ["wait", *TPU[:4]]):
        code, told = convoy(*verb)
        assert "diverged \\x1b[2J" in told
        assert_harmless(told)
    zone.faults += [(400, f"no {ESCAPES}")]
    code, told = convoy("list", *TPU[:3])
    assert code == exits.CANNOT_RUN
    assert_harmless(told)


def test_a_log_in_a_bucket_that_no_machine_wrote_is_not_read(zone, convoy, tmp_path):
    with (told_by(tmp_path) / "worker-0.log").open("wb") as log:
        log.truncate(9_000_000)  # a machine leaves its last 4 MB
    code, told = convoy("logs", *TPU[:4])
    assert code == exits.BAD_DATA
    assert "worker-0.log has more than 8,000,000 bytes" in told


def folders_only(url: str) -> Any:
    if "://" in url:
        raise exits.CannotRun(f"{url!r} is away.")
    return open_store(url)


def test_whatever_a_bucket_and_metadata_hold_a_list_is_a_list(zone, tmp_path, monkeypatch):
    """A generator over both documents: `list` never fails, and writes nothing."""
    from google.cloud import tpu_v2

    from convoy.launch.targets.tpu_vm import status as tpu_state
    from convoy.launch.targets.tpu_vm import target as tpu_vm

    job = json.loads(metadata(zone, "rn50")["convoy-job"])
    api = tpu_vm.TpuVmTarget("p", "z", zone.client())._api
    node = api.node("rn50")
    monkeypatch.setattr(api, "node", lambda name: node)  # there, so that it is asked when a worker told something last
    for module in (tpu_state, watch):
        monkeypatch.setattr(module, "open_store", folders_only)
    phases: set[str] = set()
    place = told_by(tmp_path) / "worker-0.json"
    for number in range(400):
        with mutations.case(mutations.SEED, number) as chance:
            phase, code = chance.choice([("running", None), ("ended", 0), ("ended", 70)])
            place.write_bytes(mutations.document(STATUS | {"phase": phase, "exit_code": code}, chance))
            text = mutations.document(job, chance) if chance.random() < 0.5 else json.dumps(job).encode()
            found = tpu_v2.QueuedResource(tpu={"node_spec": [{"node": {"metadata": {}}}]}, state={"state": "ACTIVE"})
            found.name = "projects/p/locations/z/queuedResources/rn50"
            with contextlib.suppress(ValueError):  # the wire has UTF-8 only
                found.tpu.node_spec[0].node.metadata["convoy-job"] = text.decode()
            if not found.tpu.node_spec[0].node.metadata.get("convoy-job"):
                continue
            with mutations.untouched(tmp_path):
                state = tpu_state.state_or_why(api, found)
                details = [value for row in watch._details(state) for value in row]
            assert state.name == "rn50"
            assert state.exit_code is None or state.exit_code in range(256)
            assert_harmless(follow.line(state))
            assert all(isinstance(text, str) for text in details)
            phases.add(state.phase)
    assert phases == {PENDING, RUNNING, FAILED, SUCCEEDED}


def test_a_machine_passes_over_what_is_no_word_of_a_peer():
    from convoy.launch.targets.tpu_vm import boot as tpu_vm_boot

    assert tpu_vm_boot.status_of(json.dumps(STATUS).encode()) == STATUS
    for number in range(500):
        with mutations.case(mutations.SEED, number) as chance:
            found = tpu_vm_boot.status_of(mutations.document(STATUS, chance))
            assert found is None or (found["phase"] in tpu_vm_boot.PHASES and type(found["restarts"]) is int)
    for changed in ({"restarts": -1}, {"restarts": 2**40}, {"exit_code": 256}, {"exit_code": -1}):
        assert tpu_vm_boot.status_of(json.dumps(STATUS | changed).encode()) is None
