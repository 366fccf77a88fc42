"""Bundles: the same code gives the same bytes, and nothing but code travels."""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import sys
import tarfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from convoy import exits
from convoy.launch.targets.tpu_vm import bundle
from convoy.store import open_store
from support import REPOSITORY


def members(built):
    with tarfile.open(fileobj=io.BytesIO(built.data)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    package = tmp_path / "mine"
    (package / "parts").mkdir(parents=True)
    (package / "net.py").write_text("def build(shape, classes): ...\n")
    (package / "parts" / "block.py").write_text("BLOCK = 1\n")
    (package / "credentials.json").write_text("secret")
    (package / ".env").write_text("secret")
    (package / "elsewhere.py").symlink_to("/etc/hostname")
    for hidden in (".venv/lib", ".git/hooks"):
        (package / hidden).mkdir(parents=True)
        (package / hidden / "other.py").write_text("")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    return package


def test_a_bundle_has_the_house_and_the_model_s_package_and_only_code(mine):
    contents = members(bundle.build("mine.net:build", "jax"))
    assert {
        "convoy/cli.py",
        "convoy/data/order.py",
        "convoy/trainer/run.py",
        "convoy/launch/worker.py",
    } <= contents.keys()
    assert {name for name in contents if name.startswith("user/")} == {"user/mine/net.py", "user/mine/parts/block.py"}
    assert {name for name in contents if not name.endswith(".py")} == {"requirements.txt", "uv.txt"}
    assert not any(name.startswith("user/") for name in members(bundle.build("resnet18", "jax")))


def test_the_same_code_gives_the_same_bytes(mine):
    before = bundle.build("mine.net:build", "jax")
    os.utime(mine / "net.py", (1, 1))
    (mine / "net.py").chmod(0o600)
    assert bundle.build("mine.net:build", "jax").sha256 == before.sha256
    (mine / "net.py").write_text("def build(shape, classes): pass\n")
    assert bundle.build("mine.net:build", "jax").sha256 != before.sha256


def test_a_model_may_be_one_file(tmp_path, monkeypatch):
    (tmp_path / "alone.py").write_text("")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    assert "user/alone.py" in members(bundle.build("alone:build", "jax"))
    with pytest.raises(exits.CannotRun, match="there is no package nowhere in"):
        bundle.build("nowhere.net:build", "jax")


def test_a_long_name_can_be_packed(mine):
    deep = mine / ("d" * 120) / ("e" * 120) / ("f" * 120)
    deep.mkdir(parents=True)
    (deep / "block.py").write_text("LONG = 1\n")
    assert f"user/mine/{'d' * 120}/{'e' * 120}/{'f' * 120}/block.py" in members(bundle.build("mine.net:build", "jax"))


def pins(text):
    """A file of pip's -> {name: its versions}; AssertionError for what has no hashes or no one version."""
    contents = {}
    for entry in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split("--hash=")
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64} *", digest) for digest in hashes), entry
        parsed = Requirement(requirement.strip())
        (version,) = parsed.specifier
        assert version.operator == "==", entry
        assert hashes, entry
        contents.setdefault(canonicalize_name(parsed.name), []).append(version.version)
    return contents


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_what_machines_install_is_pinned_by_version_and_hash(backend):
    """All of it, and within what this package declares."""
    contents = members(bundle.build("resnet18", backend))
    assert pins(contents["uv.txt"].decode()).keys() == {"uv"}
    locked = pins(contents["requirements.txt"].decode())
    assert ("jax" in locked, "tensorflow-tpu" in locked) == (backend == "jax", backend == "tensorflow")
    assert "libtpu" in locked
    assert "pytest" not in locked
    for line in importlib.metadata.requires("keras-convoy"):
        wanted = Requirement(line)
        needed = wanted.marker is None or (backend == "jax" and 'extra == "tpu"' in str(wanted.marker))
        if not needed or (backend == "tensorflow" and wanted.name == "tensorflow"):
            continue
        assert all(wanted.specifier.contains(version) for version in locked[canonicalize_name(wanted.name)]), line


def test_jax_s_machines_have_the_versions_that_the_tests_ran_with():
    here = pins((REPOSITORY / "requirements.lock").read_text())
    locked_versions = pins((bundle.LOCKS / "jax.txt").read_text())
    assert {
        name: versions for name, versions in locked_versions.items() if name in here and here[name] != versions
    } == {}


def test_a_bundle_is_written_once(tmp_path):
    built = bundle.Bundle(b"code")
    url = built.upload(str(tmp_path))
    assert url == f"{tmp_path}/code/{built.sha256}.tar.gz"
    (tmp_path / built.name).write_bytes(b"as it was")
    assert built.upload(str(tmp_path)) == url
    assert open_store(str(tmp_path)).get(built.name) == b"as it was"
