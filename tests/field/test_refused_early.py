"""A wrong place, flag or model, and a finished run, are answered before TensorFlow is imported, and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from convoy import destination, exits
from convoy.data.config import DataConfig
from convoy.data.sources import places, servers
from convoy.store import open_store
from convoy.trainer.config import RunConfig
from support import environment

HEAVY = ("tensorflow", "keras", "jax", "tensorflow_datasets", "matplotlib", "sklearn")

# What each command says, and what was imported by then. All in one process: what one imports shows at all behind it.
PROGRAM = """
import contextlib, io, json, sys
from convoy import exits
from convoy.cli import CONVOY
from convoy.trainer import run
from convoy.trainer import config as configuration

verbs = dict(CONVOY.verbs())
answers = []
for verb, *argv in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if verb == "train":  # the child's work, in this process
                run.run(configuration.from_argv(argv))
            elif verb == "parent":
                verbs["convoy train"](argv)
            else:
                opened = verbs[f"convoy {verb}"]
                opened.work(opened.parse(argv))
        except exits.ConvoyError as error:
            print(error.code, error, file=said)
    answers.append((said.getvalue(), sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:]))))
print(json.dumps(answers))
"""
CASES = [
    (["train", "--dataset=folder:absent", "--run_dir=new"], "78 --dataset=folder:absent: absent does not exist; give a folder"),
    (["train", "--dataset=folder:rows.csv", "--run_dir=new"], "rows.csv is a file, not a folder"),
    (["train", "--dataset=csv:absent.csv", "--run_dir=new"], "absent.csv does not exist; give a CSV file"),
    (["train", "--dataset=csv:photos", "--run_dir=new"], "photos is a folder; give a CSV file, or --dataset=folder:PATH"),
    (["train", "--dataset=records:photos", "--run_dir=new"], "photos has no MANIFEST.json"),
    (["train", "--dataset=records:absent", "--run_dir=new"], "absent is no folder"),
    (["train", "--pretrained=absent.safetensors", "--run_dir=new"], "absent.safetensors"),
    (["train", "--model=absent:build", "--run_dir=new"], "there is no module absent in "),
    (["train", "--model=mine:biuld", "--run_dir=new"], "mine.py defines no function biuld."),
    (["train", "--run_dir=photos"], "78 --run_dir="),
    (["train", "--run_dir=done", "--duration=2ep", "--batch_size=64"],
     "done is finished: nothing is left to do of --duration=2ep."),
    (["train", "--run_dir=done", "--batch_size=32"], "78 --run_dir=done holds another run:"),
    (["parent", "--dataset=folder:absent", "--run_dir=other"], "78 --dataset=folder:absent: absent does not exist"),
    (["parent", "--model=absent:build", "--run_dir=other"], "there is no module absent in "),
    (["parent", "--run_dir=done", "--duration=2ep", "--batch_size=64"], "done is finished: nothing is left to do"),
    (["evaluate", "--run_dir=absent"], "78 --run_dir=absent is no run"),
    (["evaluate", "--run_dir=done"], "78 "),
    (["predict", "--run_dir=absent", "photos"], "78 --run_dir=absent is no run"),
    (["predict", "--run_dir=done", "photos"], "has no checkpoint yet"),
    (["bench input", "--dataset=folder:absent"], "78 --dataset=folder:absent: absent does not exist"),
    (["bench input", "--model=absent:build"], "there is no module absent in "),
    (["data preview", "--dataset=folder:absent"], "78 --dataset=folder:absent: absent does not exist"),
    (["data preview", "--output=absent/a.png"], "--output=absent/a.png cannot be written: there is no folder absent;"),
    (["data preview", "--output=photos"], "--output=photos cannot be written: it is a folder;"),
    (["data pack", "--dataset=folder:absent", "--out=packed"], "78 --dataset=folder:absent: absent does not exist"),
    (["checkpoints list", "--run_dir=absent"], "78 "),
]  # fmt: skip
RESULT = {
    "step": 45, "epoch": 2.0, "examples": 2880, "wall_seconds": 3.0, "train": {"images_per_second": None},
    "eval": {"split": "test", "examples": 1, "accuracy": 1.0, "loss": 0.0}, "best": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> tuple[Path, dict[str, tuple[str, list[str]]]]:
    place = tmp_path_factory.mktemp("early")
    (place / "photos").mkdir()
    (place / "photos" / "notes.txt").write_text("no run")
    (place / "rows.csv").write_text("file,label\n")
    (place / "mine.py").write_text("def build(input_shape, num_classes):\n    return None\n")
    done = RunConfig("done", DataConfig("digits", eval_split="hash:0.1"), duration="2ep", batch_size=64).with_defaults()
    (place / "done").mkdir()
    (place / "done" / "config.json").write_bytes(
        done.to_json("0" * 32).replace(b'"precision": "auto"', b'"precision": "float32"')
    )
    described = {"schema": 1, "class_names": ["0", "1"], "image_shape": {"height": 8, "width": 8, "channels": 1},
                 "preprocessing": {"image_size": 0, "divide_by": 255}, "splits": ["train", "test"], "epoch": 1421}  # fmt: skip
    (place / "done" / "dataset.json").write_text(json.dumps(described))
    (place / "done" / "result.json").write_text(json.dumps(RESULT))
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps([argv for argv, _ in CASES]), *HEAVY],
        cwd=place, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return place, dict(zip((" ".join(argv) for argv, _ in CASES), json.loads(ended.stdout), strict=True))


@pytest.mark.parametrize(("argv", "words"), CASES, ids=[" ".join(argv) for argv, _ in CASES])
def test_it_is_answered_before_anything_heavy_is_imported(answers, argv, words):
    said, imported = answers[1][" ".join(argv)]
    assert words in said
    assert imported == []


def test_a_wrong_place_leaves_no_run_directory(convoy, tmp_path):
    outcome = convoy("train", "--dataset=folder:absent")
    assert outcome.code == 78, outcome
    assert len(outcome.err.splitlines()) == 1, outcome
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("", ""), ("new.json", ""), ("absent/new.json", "there is no folder"), (".", "it is a folder"),
     ("sealed/x", "permission denied")],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_refused_by_its_flag(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(destination.os, "access", lambda place, mode: "sealed" not in str(place))
    (tmp_path / "sealed").mkdir()
    if not reason:
        destination.check("output", path)
        return
    with pytest.raises(
        exits.CannotRun, match=f"^--output={path} cannot be written: {reason}.*; name a file in a folder"
    ):
        destination.check("output", path)


@pytest.fixture
def no_proxy(monkeypatch):
    monkeypatch.setattr(servers.urllib.request, "getproxies", dict)


def test_a_server_that_does_not_answer_is_named_once(no_proxy, monkeypatch):
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(servers.socket, "create_connection", refuse)
    urls = ["none", "https://data.example/a.tgz", "https://data.example/b.tgz", "http://other.example/c"]
    assert servers.unreachable(urls) == "data.example does not answer (connection refused)"
    assert asked == [("data.example", 443)]


def test_a_resolver_that_hangs_is_not_waited_for(no_proxy, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(servers, "_SECONDS", 0.01)

    def hang(address, timeout):
        ended.wait(60)
        raise OSError

    monkeypatch.setattr(servers.socket, "create_connection", hang)
    assert servers.unreachable(["ftp://data.example/a"]) == "data.example does not answer (not within 0.01 s)"
    ended.set()


def test_behind_a_proxy_the_proxy_has_to_answer(monkeypatch):
    asked = []
    monkeypatch.setattr(servers.urllib.request, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    monkeypatch.setattr(servers.urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(servers, "_refusal", lambda host, port: asked.append((host, port)) or "")
    assert servers.unreachable(["https://data.example/a.tgz"]) == ""
    assert asked == [("proxy.example", 3128)]


@pytest.fixture
def offline(no_proxy, monkeypatch):
    def refuse(address, timeout):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(servers.socket, "create_connection", refuse)


@pytest.mark.parametrize("name", ["cifar10", "cifar10:3.0.2", "imagenet_r", "tf_flowers"])
def test_a_data_set_that_cannot_be_downloaded_is_refused_without_tfds(offline, tmp_path, name):
    config = DataConfig(name, data_dir=str(tmp_path))
    words = f"--dataset={name} is not prepared in {tmp_path} and cannot be downloaded: .* does not answer"
    with pytest.raises(exits.CannotRun, match=words):
        places.check(config)
    (tmp_path / name.partition(":")[0]).mkdir()
    places.check(config)


@pytest.mark.parametrize("name", ["cifar11", "my_own_set/small", "digits"])
def test_what_tfds_does_not_list_is_left_to_it(offline, tmp_path, name):
    places.check(DataConfig(name, data_dir=str(tmp_path)))


def test_a_namespace_needs_the_list_of_the_community(offline):
    with pytest.raises(
        exits.CannotRun, match="--dataset=kagle:photos would be a data set of .* cannot be reached: storage"
    ):
        places.check(DataConfig("kagle:photos"))


def test_a_place_that_cannot_be_written_is_named_by_its_own_flag(tmp_path):
    (tmp_path / "file").touch()
    for flag in ("run_dir", "to", "out"):
        place = open_store(str(tmp_path / "file" / "below"), flag)
        with pytest.raises(exits.CannotRun, match=f"choose another --{flag}"), place.locked():
            pass
