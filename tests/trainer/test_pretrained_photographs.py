"""Real weights: EfficientNet-Lite0 names 226 of 250 photographs as timm does, by Convoy's own decoding and evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from support import DATA, environment

WEIGHTS, PHOTOGRAPHS = DATA / "pretrained" / "efficientnet_lite0", DATA / "imagenet-sample"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir() or not PHOTOGRAPHS.is_dir(), reason=f"no real weights in {DATA}"),
]

RIGHT, TOP_5, WITHIN = 226, 245, 2  # of timm, of 250

# Evaluates the test split with the weights as they are loaded, and prints what was right.
PROGRAM = """
import sys
from convoy.trainer import config as configuration, engines
from convoy.trainer.models.pretrained.settle import settle
config = settle(configuration.from_argv(sys.argv[1:]).with_defaults())
engines.choose(config.backend)
from convoy.trainer.experiment import build
experiment = build(config, load=True)
sums = experiment.engine.evaluate(experiment.data.dataset.split("test"), lambda: False)
print(config.model, config.data.image_size, config.data.crop_fraction)
print(sums.correct, sums.top5, sums.examples)
print(*experiment.engine.notes, sep="\\n")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """test/ with the photographs, one or none of each class, and train/ with something of each of the 1,000 classes."""
    root = tmp_path_factory.mktemp("imagenet")
    wnids = (DATA / "pretrained" / "imagenet_wnids.txt").read_text().split()
    Image.new("RGB", (32, 32)).save(root / "any.png")
    for wnid in wnids:
        (root / "train" / wnid).mkdir(parents=True)
        (root / "train" / wnid / "any.png").symlink_to(root / "any.png")
    for path in PHOTOGRAPHS.glob("*.JPEG"):
        place = root / "test" / path.name[:9]
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).symlink_to(path)
    return root


def measured(folder: Path, backend: str, *flags: str) -> list[str]:
    """The lines of PROGRAM."""
    argv = [f"--dataset=folder:{folder}", f"--pretrained={WEIGHTS}", f"--backend={backend}", "--eval_split=none",
            "--batch_size=25", *flags]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *argv],
        env=environment(KERAS_BACKEND=backend),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("Note: the split")]


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_photographs_are_named_as_by_timm(folder, backend):
    pytest.importorskip(backend)
    network, counts, note = measured(folder, backend)[:3]
    assert network == "efficientnet_lite0 224 0.875"
    right, top_5, examples = map(int, counts.split())
    assert examples == 250
    assert abs(right - RIGHT) <= WITHIN
    assert abs(top_5 - TOP_5) <= WITHIN
    assert "245 tensors loaded; the head, 1000 of 1000 classes with their weights" in note
