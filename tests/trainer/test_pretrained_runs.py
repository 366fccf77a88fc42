"""--pretrained in a run: what is settled stands in config.flags, a continued run reads no weights, and a run is a source."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.run import run
from convoy.trainer.run_dir import stored_config
from support import REPOSITORY, final_tensors, result_of, run_workers, write_images

pytestmark = pytest.mark.slow  # runs

SMALL = """
import keras

def build(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return keras.Model(image, keras.layers.Dense(num_classes, name="logits")(keras.layers.Flatten()(x)), name="small")
"""


def config(run_dir: str, photos: str, **flags) -> RunConfig:
    data = DataConfig(f"folder:{photos}", image_size=flags.pop("image_size", 0), eval_split="none")
    return RunConfig(
        run_dir, data, **{"batch_size": 4, "duration": "2st", "steps_per_loop": 1, "ema": 0.5, "report": False, **flags}
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A directory with small.py, photographs and a finished run on them."""
    home = tmp_path_factory.mktemp("first")
    (home / "stage_nets.py").write_text(SMALL)
    write_images(home / "photos", ("cat", "dog"), each=4)
    write_images(home / "more", ("cat", "fox", "dog"), each=4, first=9)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(home)
        patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
        run(config("first", "photos", model="stage_nets:build", image_size=12))
    return home


@pytest.fixture
def home(first, tmp_path, monkeypatch):
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
    return tmp_path


def test_a_second_stage_begins_with_the_averaged_weights_of_the_first(home):
    result = run(config("second", "more", pretrained="first", learning_rate=1e-30, ema=0.0))
    flags = (home / "second" / "config.flags").read_text().splitlines()
    assert {"--model=stage_nets:build", "--pretrained=first", "--image_size=12"} <= set(flags)
    then, now = final_tensors(home / "first"), final_tensors(home / "second")
    kernel = "small/conv/kernel" if "model/small/conv/kernel" in now else "conv/kernel"
    assert np.allclose(now[f"model/{kernel}"], then[f"ema/{kernel}"], atol=1e-7)
    assert not np.allclose(then[f"model/{kernel}"], then[f"ema/{kernel}"], atol=1e-7)
    # cat is class 0 of both, dog class 1 and 2.
    head = kernel.replace("conv/kernel", "logits/kernel")
    assert np.allclose(now[f"model/{head}"][:, [0, 1]], then[f"ema/{head}"], atol=1e-7)
    assert result["pretrained"]["kind"] == "run"
    assert (result["pretrained"]["classes_kept"], result["pretrained"]["classes_new"]) == (2, 1)
    assert result_of(home / "second")["pretrained"] == result["pretrained"]


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("processes", [1, 2])
def test_every_replica_begins_with_the_same_weights(home, convoy, backend, processes):
    pytest.importorskip(backend)
    flags = ["--dataset=folder:more", "--pretrained=first", "--run_dir=second", "--eval_split=none", "--batch_size=4",
             "--duration=2st", "--learning_rate=1e-30", "--model=stage_nets:build"]  # fmt: skip
    if processes == 1:
        outcome = convoy("train", *flags, f"--backend={backend}", "--devices=cpu:2", cwd=home)
        assert outcome.code == 0, outcome
    else:
        run_workers(home, backend, 2, *flags)
    then, now = final_tensors(home / "first"), final_tensors(home / "second")
    (kernel,) = (name for name in now if name.startswith("model/") and name.endswith("conv/kernel"))
    assert np.allclose(now[kernel], then[kernel.replace("model/", "ema/")], atol=1e-7)
    assert result_of(home / "second")["replicas"] == 2


def test_a_continued_run_needs_its_source_no_more(home, capsys):
    asked = config("second", "more", pretrained="first", duration="4st", checkpoint_every="2st")
    run(config("second", "more", pretrained="first", duration="2st", checkpoint_every="2st"))
    shutil.rmtree(home / "first")
    result = run(asked)
    assert result["step"] == 4
    assert result["pretrained"]["classes_kept"] == 2
    assert "weights of" in capsys.readouterr().out.partition("continues at step 2")[0]


def test_a_run_from_before_there_were_these_flags_is_read():
    values = RunConfig(model="resnet18").to_dict()
    for name in ("pretrained", "crop_fraction"):
        del values[name]
    stored = stored_config.from_json(json.dumps(values).encode(), "config.json").unchecked
    assert (stored.model, stored.pretrained, stored.data.crop_fraction) == ("resnet18", "", None)


def test_another_source_is_another_run(home):
    with pytest.raises(exits.CannotRun, match="--pretrained=elsewhere, but the run was begun with --pretrained="):
        run(config("first", "photos", pretrained="elsewhere"))


def test_code_that_a_run_names_is_not_trusted(home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))  # of somebody who did not begin that run
    with pytest.raises(exits.CannotRun, match="code that would run with your rights"):
        run(config("second", "more", pretrained="first"))
    assert not (home / "second" / "config.json").exists()


def test_auto_is_the_default_network_without_weights(home):
    assert RunConfig().model == "auto"
    assert RunConfig().with_defaults().model == "article_cnn"
    with pytest.raises(exits.CannotRun, match="--model=article_cnn does not take it"):
        RunConfig(stochastic_depth=0.1)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("nothing", "nothing that can be read is there; give a file"),
        ("photos", "nothing that can be read is there"),
        ("imagenet", "say of which network, --model=keras:NAME"),
        ("stage_nets.py", "nothing that can be read is there"),
        ("one.weights.h5", "does not say of which network it is; give --model too"),
    ],
)  # fmt: skip
def test_a_source_that_is_none_is_a_sentence(home, spec, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        settle(config("second", "more", pretrained=spec))


def test_nothing_heavy_is_imported_to_settle():
    program = (
        "import sys; from convoy.trainer.models.pretrained.settle import settle;"
        " print(sorted({'tensorflow', 'keras', 'jax', 'keras_hub', 'safetensors', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
