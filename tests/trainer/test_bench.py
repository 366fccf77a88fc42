"""`convoy bench input` and `step` and `convoy data preview` as processes, and the sentence about input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convoy import exits
from convoy.data import preview
from convoy.data.config import DataConfig
from convoy.data.verbs.preview import VERB
from convoy.trainer.outputs import advice

pytestmark = pytest.mark.slow


def test_waiting_is_told_with_what_helps():
    assert advice.input_advice(None, DataConfig()) == advice.input_advice(0.09, DataConfig()) == ""
    said = advice.input_advice(0.37, DataConfig("folder:photos", augment="photo"))
    assert said.startswith("input-bound: 37% of the step waits for data; try ")
    for remedy in ("convoy data pack --dataset=folder:photos", "cheaper --augment than photo"):
        assert remedy in said
    assert "data pack" not in advice.input_advice(0.37, DataConfig("records:packed"))


def test_bench_prints_one_object(convoy):
    done = convoy(
        "bench", "input", "--dataset=synthetic:8x8x3:3:200", "--batch_size=16", "--rounds=1", "--seconds=0.2", "--json"
    )
    assert done.code == 0, done
    found = json.loads(done.out)
    speeds = [found[part]["images_per_second"] for part in ("loader", "step", "together")]
    assert min(speeds) > 0
    assert 0 <= found["input_wait_fraction"] <= 1
    bound = 1 / (1 / speeds[0] + 1 / speeds[1])
    assert abs(found["bound"]["images_per_second"] / bound - 1) < 1e-9
    assert convoy("bench", "output").code == 2


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_a_step_is_measured_beside_what_the_devices_can_do(convoy, backend):
    flags = ["--dataset=synthetic:16x16x3:3:200", "--batch_size=16", "--rounds=1", "--seconds=0.1", "--json"]
    done = convoy("bench", "step", f"--backend={backend}", *flags)
    assert done.code == 0, done
    found = json.loads(done.out)
    # 3x3 convolution of 3 colours into 32 without the gradient of its images; 7x7x32 pooled numbers into 128; the head.
    multiplications = 2 * 14 * 14 * 27 * 32 + 3 * (7 * 7 * 32 * 128 + 128 * 3)
    assert found["flops_per_step"] == 16 * 2 * multiplications
    assert found["flops_per_second"] == pytest.approx(found["images_per_second"] * 2 * multiplications)
    assert found["peak_fraction"] == pytest.approx(found["flops_per_second"] / found["peak"]["flops_per_second"])
    spread = found["spread"]["images_per_second"]
    assert spread["least"] <= found["images_per_second"] <= spread["most"]
    assert {"conv", "pool", "dense", "logits"} <= {row["layer"] for row in found["layers"]}
    assert sum(found["parts"].values()) == pytest.approx(1)
    assert found["parts"]["layers"] == pytest.approx(sum(row["share"] for row in found["layers"]))
    assert found["parts"]["optimizer"] > 0


def test_preview_draws_a_picture(convoy, tmp_path):
    from PIL import Image

    done = convoy("data", "preview", "--augment=rotate:15+mixup", "--count=5", "--output=sheet.png")
    assert done.code == 0, done
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 50


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path):
    parsed = VERB.parse(["--augment=flip", "--count=2", f"--output={tmp_path}/no/where.png"])
    with pytest.raises(exits.CannotRun, match="cannot be written: there is no folder .*; name a file in a folder"):
        VERB.work(parsed)


def test_a_verdict_advises_no_memory_for_what_is_never_kept_there():
    assert "--cache_bytes" in advice.input_advice(0.37, DataConfig("folder:my photos", augment="flip"))
    said = advice.input_advice(0.37, DataConfig("folder:my photos", augment="photo"))
    assert "--cache_bytes" not in said
    assert "--dataset='folder:my photos'" in said


@pytest.fixture
def broken(photographs):
    """One of the photographs, which ends too early."""
    path = photographs / "dog" / "004.jpg"
    path.write_bytes(path.read_bytes()[:-150])
    return path


def test_a_preview_names_an_image_that_cannot_be_decoded(photographs, broken):
    data = DataConfig(f"folder:{photographs}", image_size=16, cache_bytes=0, eval_split="none")
    with pytest.raises(exits.BadData, match=f"the image {broken} cannot be decoded"):
        preview.contact_sheet(data, 24, 0)


@pytest.mark.thorough
def test_bench_names_an_image_that_cannot_be_decoded(convoy, photographs, broken):
    flags = [f"--dataset=folder:{photographs}", "--image_size=16", "--cache_bytes=0", "--eval_split=none"]
    done = convoy("bench", "input", "--rounds=1", "--seconds=0.1", *flags)
    assert done.code == 65, done
    assert f"the image {broken} cannot be decoded" in done.err


@pytest.mark.parametrize("shape", ["1x8x1", "6x5x2", "6x5x4"])
def test_a_preview_shows_images_of_any_shape(shape):
    assert preview.contact_sheet(DataConfig(f"synthetic:{shape}:3:40"), 3, 0).startswith(b"\x89PNG")


def test_a_preview_shows_what_took_the_place_of_a_bad_image(photographs, monkeypatch):
    (photographs / "cat" / "001.png").write_text("this is no image")
    drawn = []
    monkeypatch.setattr(preview, "draw", lambda originals, batch, *_: drawn.append((originals, batch.images)) or b"")
    for cache_bytes in (0, 1 << 30):
        preview.contact_sheet(DataConfig(f"folder:{photographs}", bad_images="substitute", max_bad_fraction=0.1,
                                 eval_split="none", cache_bytes=cache_bytes), 24, 0)  # fmt: skip
    for originals, images in drawn:
        assert np.array_equal(originals, images)
