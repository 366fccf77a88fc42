"""A run directory may come from a stranger: no command imports the code it names unless this user trusts it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.trainer import run as training
from convoy.trainer.config import RunConfig
from convoy.trainer.processes.signals import Signals
from convoy.trainer.verbs import evaluate
from convoy.trainer.verbs.checkpoints import copy

pytestmark = pytest.mark.slow

# Writes a file beside itself when it is imported.
MODEL = """
from pathlib import Path
Path(__file__).with_suffix(".imported").touch()
import keras
def build(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
def other(input_shape, num_classes):
    return build(input_shape, num_classes)
"""
NAMES = ("users_net", "users_pack")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A folder with users_net.py and a run that somebody else began with it."""
    place = tmp_path_factory.mktemp("stranger")
    (place / "users_net.py").write_text(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(place)
        train()
    return place


@pytest.fixture
def home(strangers, tmp_path, monkeypatch):
    """A current directory with a stranger's files, and a cache that does not know them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copytree(strangers, tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(tmp_path / "home")
    yield tmp_path / "home"
    forget()


def forget() -> None:
    """Makes imports as in a new process: no user's module is loaded, and the current directory is not searched."""
    for name in [name for name in sys.modules if name.partition(".")[0] in NAMES]:
        del sys.modules[name]
    sys.path[:] = [place for place in sys.path if not (Path(place) / "users_net.py").exists()]
    for marker in [*Path().glob("*.imported"), *Path().glob("*/**/*.imported")]:
        marker.unlink()


def train(run_dir: str = "run", model: str = "users_net:build", duration: str = "2st") -> None:
    config = RunConfig(
        run_dir=run_dir, model=model, duration=duration, eval_every="100st", checkpoint_every="100st", report=False
    )
    training.run(config)
    forget()


def measure(run_dir: str = "run", **flags: object) -> dict:
    return evaluate.evaluate(evaluate.EvaluateConfig(run_dir=run_dir, **flags), Signals())[0]


def edit(run_dir: str = "run", **values: object) -> None:
    config = Path(run_dir, "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))


def assert_refused(*words: str, run_dir: str = "run", **flags: object) -> None:
    with pytest.raises(exits.CannotRun) as caught:
        measure(run_dir, **flags)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not list(Path().rglob("*.imported"))
    assert not any(name.partition(".")[0] in NAMES for name in sys.modules)
    forget()


def begun_here() -> None:
    """Records the run in the cache, as a start of it here does."""
    from convoy.trainer.run_dir import stored_config, trust

    config = stored_config.from_json(Path("run/config.json").read_bytes(), "run")
    assert trust.remember(config.run_id, config.unchecked) == []


def test_a_strangers_run_directory_imports_nothing(home):
    assert_refused("users_net", "run names", "no run that you began", "--model=users_net:build", "--trust_model_code")


def test_no_package_on_the_way_to_a_strangers_module_is_imported(home):
    inner = Path("users_pack/inner")
    inner.mkdir(parents=True)
    for place in (inner.parent, inner):
        (place / "__init__.py").write_text(MODEL.partition("import keras")[0])
    (inner / "net.py").write_text(MODEL)
    edit(model="users_pack.inner.net:build")
    assert_refused("users_pack.inner.net", "no run that you began")
    # The module is known, but not the __init__.py that an import runs before it.
    begun_here()
    (inner / "__init__.py").open("a").write("\n")
    assert_refused("users_pack.inner.net", "has changed")


def test_the_real_command_imports_nothing_of_a_stranger(home, convoy):
    refused = convoy("evaluate", "--run_dir=run", cwd=home)
    assert not Path("users_net.imported").exists()
    assert refused.code == 78, refused
    assert "--trust_model_code" in refused.err


def test_a_run_directory_does_not_say_where_compiled_programs_are_read(home):
    from convoy.trainer.run_dir import stored_config, trust

    edit(compile_cache="gs://theirs/programs", trust_compile_cache=True)
    stored = stored_config.from_json(Path("run/config.json").read_bytes(), "run")
    config = trust.consented(stored, "run", trusted=True)
    assert (config.compile_cache, config.trust_compile_cache) == ("auto", False)


def test_a_person_can_trust_a_strangers_code(home):
    assert_refused("users_net:other", "users_net:build", model="users_net:other")
    assert measure(model="users_net:build")["examples"] == 376
    forget()
    assert measure(trust_model_code=True)["examples"] == 376


def test_a_person_evaluates_own_runs_and_their_copies_without_a_flag(home):
    train("mine")
    assert copy(["--run_dir=mine", "--to=elsewhere/copy"]) == 0
    assert measure("elsewhere/copy")["examples"] == 376
    forget()
    assert_refused("no run that you began")


def test_continuing_a_run_trusts_its_code(home):
    """This holds for a run of a version without ids too."""
    config = json.loads(Path("run/config.json").read_text())
    config.pop("run_id", "")
    Path("run/config.json").write_text(json.dumps(config))
    assert_refused("users_net", "no run that you began")
    train(duration="3st")
    assert measure()["step"] == 3


def test_a_run_of_this_users_does_not_vouch_for_other_code(home, monkeypatch):
    """The cache knows the directory, but somebody has changed the code it names."""
    train(duration="3st")
    for model in ("users_net:other", "users_pack:build", "os:system"):
        edit(model=model)
        assert_refused(model, "no run that you began")
    edit(model="users_net:build")
    shutil.copytree(home, "clone")
    monkeypatch.chdir("clone")
    assert_refused("users_net", str(home / "users_net.py"), str(home / "clone" / "users_net.py"))
    monkeypatch.chdir(home)
    Path("users_net.py").open("a").write("\n")
    assert_refused("users_net", "has changed since")
    Path("users_net.py").unlink()
    assert_refused("users_net", "not in", str(home))


@pytest.mark.parametrize("run_id", ["../../../home/mine", "A" * 32, "0" * 31, ["0" * 32], None, 7])
def test_a_run_id_of_another_form_is_no_path(home, run_id):
    Path("mine.json").write_text('{"model": "users_net:build"}')
    edit(run_id=run_id)
    assert_refused("users_net", "no run that you began")


def test_a_cache_that_cannot_be_written_is_a_note(home, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    train("mine")
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be written" in said
    assert "may need --model=users_net:build" in said
    assert_refused("users_net", "no run that you began", run_dir="mine")


def test_a_damaged_note_trusts_nothing(home, tmp_path):
    begun_here()
    (note,) = (tmp_path / "cache/convoy/runs").iterdir()
    assert note.stem == json.loads(Path("run/config.json").read_text())["run_id"]
    assert json.loads(note.read_text())["file"] == str(home / "users_net.py")
    for damaged in (b"", b"[]", b'{"model": 3}', b"\xff", b"[" * 10_000):
        note.write_bytes(damaged)
        assert_refused("users_net", "no run that you began")


@pytest.mark.parametrize("dataset", ["kaggle:pictures", "huggingface:pictures"])
def test_a_data_set_that_comes_with_code_is_not_built(home, monkeypatch, dataset):
    """TFDS downloads a Python module for a name of its community, or of Hugging Face, and imports it."""
    asked = []
    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, **_: asked.append(name))
    edit(model="article_cnn", dataset=dataset)
    with pytest.raises(exits.CannotRun, match=rf"run names --dataset={dataset}.*--trust_model_code"):
        measure()
    assert asked == []


@pytest.mark.parametrize(
    "features", [{"type": "users_pack.Picture", "content": {}}, {"pythonClassName": "users_pack.Picture"}]
)
def test_a_prepared_folder_names_no_code_to_import(home, tmp_path, monkeypatch, features):
    """TFDS imports the module of a class in features.json, wherever Python finds it."""
    Path("users_pack").mkdir()
    Path("users_pack/__init__.py").write_text(MODEL)
    monkeypatch.syspath_prepend(home)
    prepared = Path("tfds/pictures/1.0.0")
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text('{"name": "pictures", "version": "1.0.0"}')
    (prepared / "features.json").write_text(json.dumps(features))
    edit(model="article_cnn", dataset="pictures", data_dir="tfds")
    with pytest.raises((exits.BadData, exits.CannotRun)) as caught:
        measure()
    assert not list(Path().rglob("*.imported"))
    assert "users_pack.Picture" in str(caught.value)


def test_nothing_is_downloaded_for_a_stranger(home, monkeypatch):
    import tensorflow_datasets as tfds

    asked, reached = [], []
    monkeypatch.setattr("convoy.data.sources.servers.unreachable", lambda urls: reached.append(urls) or "")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: asked.append(self.data_dir))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(Path("default").absolute()))
    for number, place in enumerate(("there", "")):
        edit(model="article_cnn", dataset="mnist", data_dir=place, run_id=str(number) * 32)
        with pytest.raises(exits.CannotRun, match=rf"mnist is not prepared in .*{place or 'default'}.*--data_dir"):
            measure()
        assert asked == reached == []
        for flags in ({"dataset": "mnist"}, {"data_dir": "here"}):
            with contextlib.suppress(Exception):  # the pretended download leaves no files
                measure(**flags)
        begun_here()
        with contextlib.suppress(Exception):
            measure()
        assert len(asked) == len(reached) == 3
        asked.clear()
        reached.clear()


def test_a_stranger_cannot_raise_the_memory_that_images_take(home, monkeypatch):
    asked = []

    def opened(data: DataConfig, **_: object) -> None:
        asked.append(data.cache_bytes)
        raise exits.CannotRun("far enough")

    monkeypatch.setattr("convoy.data.opening.open_dataset", opened)
    monkeypatch.setattr("convoy.data.sources.places.check", lambda data: None)
    for dataset, cache_bytes in (("folder:x", 1 << 60), ("records:x", 1 << 60), ("folder:x", 1000)):
        edit(model="article_cnn", dataset=dataset, cache_bytes=cache_bytes)
        with pytest.raises(exits.CannotRun, match="far enough"):
            measure()
    assert asked == [4 << 30, 4 << 30, 1000]


def test_records_of_a_bucket_are_not_copied_to_a_strangers_place(home, monkeypatch):
    asked = []

    def mirrored(_url: str, data_dir: str, shards: bool) -> None:
        assert shards, "the whole copy"
        asked.append(data_dir)
        raise exits.CannotRun("far enough")

    monkeypatch.setattr("convoy.data.sources.records.mirrored", mirrored)
    edit(model="article_cnn", dataset="records:gs://bucket/packed", data_dir="there")
    for flags in ({}, {"data_dir": "here"}):
        with pytest.raises(exits.CannotRun, match="far enough"):
            measure(**flags)
    assert asked == ["", "here"]
    begun_here()
    with pytest.raises(exits.CannotRun, match="far enough"):
        measure()
    assert asked[2:] == ["there"]


def test_an_unchecked_configuration_cannot_be_built(home):
    """A configuration read from a run directory passes convoy.trainer.run_dir.trust first; no builder takes it as read."""
    from convoy.trainer import engines
    from convoy.trainer.run_dir import stored_config

    config = stored_config.from_json(RunConfig().to_json("0" * 32), "run/config.json")
    with pytest.raises(AttributeError):
        engines.choose("tensorflow").prepare(config, ignore_cluster=True)
