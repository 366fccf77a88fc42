"""The files of k8s/: overlays are what `convoy launch render` gives, bases are complete, the Dockerfile is as it should be."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import overlays
from convoy.launch import images
from convoy.launch.command_line import from_argv
from convoy.launch.targets.kubernetes import documents, manifest
from kube_documents import assert_valid, container
from support import REPOSITORY

pytestmark = pytest.mark.slow  # processes

OVERLAYS = sorted((REPOSITORY / "k8s" / "overlays").iterdir())


def command_of(overlay: Path) -> list[str]:
    """The command in an overlay's first comment."""
    comment = re.match(r"(#.*\n)+", (overlay / "kustomization.yaml").read_text())
    assert comment
    text = re.sub(r"^# *", "", comment[0], flags=re.MULTILINE).replace("\\\n", " ")
    (line,) = (line for line in text.splitlines() if line.startswith("convoy launch render "))
    return shlex.split(line)[3:]


def settled(things: list[dict]) -> list[dict]:
    """Documents and what in them has names in an order of their own, without the digest, which no overlay has."""
    for thing in things:
        thing["metadata"].get("annotations", {}).pop(manifest.DIGEST, None)
        if thing["kind"] in ("Job", "JobSet"):
            for named in (container([thing])["env"], documents.job_spec(thing)["template"]["spec"]["volumes"]):
                named.sort(key=lambda part: part["name"])
    return sorted(things, key=lambda thing: thing["kind"])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_an_overlay_gives_the_documents_of_its_command(overlay):
    rendered = manifest.render(from_argv(command_of(overlay)))
    built = overlays.build(overlay)
    assert_valid(built)
    assert settled(built) == settled(rendered)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here, whose kustomize would build the overlays")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_kubectl_builds_the_overlays(overlay):
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert settled(built) == settled(manifest.render(from_argv(command_of(overlay))))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_a_component_leaves_the_network_policy_out(overlay, tmp_path):
    folder = tmp_path / "k8s" / "overlays" / "mine"
    shutil.copytree(REPOSITORY / "k8s", tmp_path / "k8s")
    folder.mkdir()
    content = {"resources": [f"../{overlay.name}"], "components": ["../../components/no-network-policy"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    rendered = manifest.render(from_argv(["--network_policy=off", *command_of(overlay)]))
    assert [thing["kind"] for thing in rendered if thing["kind"] == "NetworkPolicy"] == []
    assert settled(overlays.build(folder)) == settled(rendered)
    if shutil.which("kubectl"):
        built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
        assert settled(list(yaml.safe_load_all(built))) == settled(rendered)


@pytest.mark.parametrize("name", ["jobset", "indexed"])
def test_a_base_is_complete(name):
    assert_valid(overlays.build(REPOSITORY / "k8s" / "base" / name))


def test_the_dockerfile_says_what_it_should():
    """Its text; test_image.py builds it where there is something to build it with."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "k8s" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split() for line in text.replace("\\\n", " ").splitlines() if line]
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER"}
    assert {line[0] for line in lines} == known, "the manifests say what runs: no ENTRYPOINT, no CMD"
    default = next(line[1] for line in lines if line[:1] == ["ARG"] and line[1].startswith("PYTHON="))
    assert re.fullmatch(r"PYTHON=python:3\.1[123]\.\d+-slim-\w+@sha256:[0-9a-f]{64}", default), "by digest"
    assert not images.why_not(default.removeprefix("PYTHON="))
    assert "--require-hashes --requirement=uv.txt" in text
    stages = [index for index, line in enumerate(lines) if line[0] == "FROM"]
    assert len(stages) == 2
    last = lines[stages[-1] :]
    assert not [line for line in last if line[0] == "RUN"], "the last stage has no tools and no layers of its own"
    pod = documents.job_spec(documents.base("jobset/jobset.yaml"))["template"]["spec"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert [line[1] for line in last if line[0] == "USER"] == [user]
    copied = [word for line in lines if line[0] == "COPY" and "--from=build" not in line for word in line[1:-1]]
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []
    assert {"convoy", "data", "trainer", "launch", "k8s", "setup.py", "requirements.lock"} <= set(copied)
    assert "--constraints=requirements.lock" in text
    extra = re.search(r"^ARG EXTRA=(\w+)$", text, re.MULTILINE)
    assert extra
    named = re.findall(r"([\w-]+) \((?:TensorFlow|JAX) ", (REPOSITORY / "k8s" / "Dockerfile").read_text())
    assert {extra[1], "jax-gpu"} < set(named)
    assert [name for name in named if f'"{name}": [' not in (REPOSITORY / "setup.py").read_text()] == []
