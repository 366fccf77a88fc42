"""`convoy bench input` and `convoy data preview` as processes, and the sentence about input."""

from __future__ import annotations

import json

from data.config import DataConfig
from trainer import verdict


def test_waiting_is_told_with_what_helps():
    assert verdict.of_waiting(None, DataConfig()) == verdict.of_waiting(0.09, DataConfig()) == ""
    said = verdict.of_waiting(0.37, DataConfig("folder:photos", augment="photo"))
    assert said.startswith("input-bound: 37% of the step waits for data; try ")
    for remedy in ("convoy data pack --dataset=folder:photos", "--cache_bytes", "cheaper --augment than photo"):
        assert remedy in said
    assert "data pack" not in verdict.of_waiting(0.37, DataConfig("records:packed"))


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


def test_preview_draws_a_picture(convoy, tmp_path):
    from PIL import Image

    done = convoy("data", "preview", "--augment=rotate:15+mixup", "--count=5", "--output=sheet.png")
    assert done.code == 0, done
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 50
    assert convoy("data", "preview", "--output=no/where.png").code == 78
