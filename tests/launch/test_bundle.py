"""Bundles: the same code gives the same bytes, and nothing but code travels."""

from __future__ import annotations

import importlib.metadata
import io
import os
import tarfile

import pytest

from convoy import exits
from convoy.store import open_store
from launch import bundle


def members(made):
    with tarfile.open(fileobj=io.BytesIO(made.data)) as tar:
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
    monkeypatch.chdir(tmp_path)
    return package


def test_a_bundle_has_the_house_and_the_model_s_package_and_only_code(mine):
    found = members(bundle.build("mine.net:build", "jax"))
    assert {"convoy/cli.py", "data/order.py", "trainer/run.py", "launch/worker.py"} <= found.keys()
    assert {name for name in found if name.startswith("user/")} == {"user/mine/net.py", "user/mine/parts/block.py"}
    assert all(name.endswith(".py") for name in found if name != "requirements.txt")
    assert not any(name.startswith("user/") for name in members(bundle.build("resnet18", "jax")))


def test_the_same_code_gives_the_same_bytes(mine):
    one = bundle.build("mine.net:build", "jax")
    os.utime(mine / "net.py", (1, 1))
    (mine / "net.py").chmod(0o600)
    assert bundle.build("mine.net:build", "jax").sha256 == one.sha256
    (mine / "net.py").write_text("def build(shape, classes): pass\n")
    assert bundle.build("mine.net:build", "jax").sha256 != one.sha256


def test_a_model_may_be_one_file(tmp_path, monkeypatch):
    (tmp_path / "alone.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert "user/alone.py" in members(bundle.build("alone:build", "jax"))
    with pytest.raises(exits.CannotRun, match="there is no package nowhere in"):
        bundle.build("nowhere.net:build", "jax")


def test_a_long_name_is_no_hindrance(mine):
    deep = mine / ("d" * 120) / ("e" * 120) / ("f" * 120)
    deep.mkdir(parents=True)
    (deep / "block.py").write_text("LONG = 1\n")
    assert f"user/mine/{'d' * 120}/{'e' * 120}/{'f' * 120}/block.py" in members(bundle.build("mine.net:build", "jax"))


def test_what_is_not_here_or_on_no_index_keeps_its_range(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.0+cpu")
    assert any(line.startswith("keras<") for line in bundle.requirements("jax"))


def test_what_is_installed_there_is_for_tpus():
    jax, tensorflow = bundle.requirements("jax"), bundle.requirements("tensorflow")
    # As they are here, so that machines of another night have the same.
    assert f"keras=={importlib.metadata.version('keras')}" in jax
    assert f"jax[tpu]=={importlib.metadata.version('jax')}" in jax
    assert any(line.startswith("tensorflow==") for line in jax)
    assert not any(line.startswith(("jax", "tensorflow<", "tensorflow==")) for line in tensorflow)
    assert any(line.startswith("tensorflow-tpu") for line in tensorflow)
    for lines in (jax, tensorflow):
        assert any(line.startswith("tensorflow-datasets") for line in lines)
        assert not any("extra" in line or line.startswith("pytest") for line in lines)


def test_a_bundle_is_written_once(tmp_path):
    made = bundle.Bundle(b"code")
    url = made.upload(str(tmp_path))
    assert url == f"{tmp_path}/code/{made.sha256}.tar.gz"
    (tmp_path / made.name).write_bytes(b"as it was")
    assert made.upload(str(tmp_path)) == url
    assert open_store(str(tmp_path)).get(made.name) == b"as it was"
