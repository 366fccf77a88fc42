"""Real weights: EfficientNet-Lite0 names 226 of 250 photographs as timm does, by Convoy's own decoding and evaluation.

Loaded into a network that pads otherwise, or sees pixels normalized otherwise, the same tensors fit and name fewer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from convoy import exits
from support import DATA, environment

WEIGHTS, PHOTOGRAPHS = DATA / "pretrained" / "efficientnet_lite0", DATA / "imagenet-sample"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir() or not PHOTOGRAPHS.is_dir(), reason=f"no real weights in {DATA}"),
]

RIGHT, TOP_5, WITHIN = 226, 245, 2  # of timm, of 250
FIRST_RIGHT = 107  # of timm, of the first 120

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
    return [line for line in done.stdout.splitlines() if not line.startswith("Note: ")]


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_photographs_are_named_as_by_timm(folder, backend):
    pytest.importorskip(backend)
    network, counts, note = measured(folder, backend)[:3]
    assert network == "efficientnet_lite0 224 0.875"
    right, top_5, examples = map(int, counts.split())
    assert examples == 250
    assert abs(right - RIGHT) <= WITHIN
    assert abs(top_5 - TOP_5) <= WITHIN
    assert "245 tensors loaded; the head, 1000 of 1000 classes with their weights" in note


@pytest.fixture(scope="module")
def images():
    """The first 120 photographs, as an evaluation shows them: uint8 [120, 224, 224, 3], and their classes [120]."""
    import tensorflow as tf

    from convoy.data.images import decode
    from convoy.data.images.crop_geometry import centre_windows
    from convoy.data.images.probe import probe
    from convoy.data.images.view import View

    def shown(path: Path) -> np.ndarray:
        header = probe(str(path))
        height, width = tf.constant(header.height), tf.constant(header.width)
        window = centre_windows(height[None], width[None], View(224, 0.875))[0]
        file = decode.File(tf.io.read_file(str(path)), header.kind, header.orientation, height, width)
        return decode.part(file, window, (224, 224), smooth=True, cubic=True).numpy()

    paths = sorted(PHOTOGRAPHS.glob("*.JPEG"))[:120]
    wnids = (DATA / "pretrained" / "imagenet_wnids.txt").read_text().split()
    return np.stack([shown(path) for path in paths]), np.array([wnids.index(path.name[:9]) for path in paths])


def load_network(place: Path = WEIGHTS):
    """A network with the weights, and the notes of loading them."""
    from convoy.trainer.models.build import build_model
    from convoy.trainer.models.pretrained import imagenet
    from convoy.trainer.models.pretrained.loading import load

    wnids = [names[0] for names in imagenet.class_names()]
    assert wnids == (DATA / "pretrained" / "imagenet_wnids.txt").read_text().split()
    model = build_model("efficientnet_lite0", (224, 224, 3), len(wnids))
    return model, load(model, "efficientnet_lite0", str(place), wnids).notes


def right(model, images, labels) -> int:
    logits = model.predict(images.astype("float32") / 255, batch_size=40, verbose=0)
    return int((logits.argmax(axis=1) == labels).sum())


@pytest.mark.thorough
def test_of_the_first_photographs_as_many_are_named_as_by_timm(images):
    assert abs(right(load_network()[0], *images) - FIRST_RIGHT) <= WITHIN


@pytest.mark.thorough
def test_other_pixels_and_other_padding_name_fewer(images):
    """timm: normalized as for ImageNet 80.8 %, padded symmetrically 85.0 %."""
    import keras

    model, notes = load_network()
    assert len(notes) == 1, notes
    preprocess = model.get_layer("preprocess")
    as_usual = keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2])
    image = keras.Input((224, 224, 3))
    others = keras.Model(image, model.get_layer("logits")(model.get_layer("backbone")(as_usual(image))))
    assert right(others, *images) <= FIRST_RIGHT - 3 * WITHIN
    backbone = keras.Model.from_config(symmetric(model.get_layer("backbone").get_config()))
    backbone.set_weights(model.get_layer("backbone").get_weights())
    others = keras.Model(image, model.get_layer("logits")(backbone(preprocess(image))))
    assert right(others, *images) <= FIRST_RIGHT - WITHIN


@pytest.fixture
def damaged(tmp_path):
    """Loads the weights after `change` has had its way with the tensors; gives the notes."""

    def load_changed(change, **config) -> list[str]:
        tensors = load_file(WEIGHTS / "model.safetensors")
        change(tensors)
        save_file(
            {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, tmp_path / "model.safetensors"
        )
        described = json.loads((WEIGHTS / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(described | config))
        return load_network(tmp_path)[1]

    return load_changed


def kernels_in_each_others_place(tensors) -> None:
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, tensor in tensors.items():
        if "conv" in name:
            shapes.setdefault(tensor.shape, []).append(name)
    for names in shapes.values():
        moved = [tensors[name] for name in names]
        for name, tensor in zip(names, [*moved[1:], moved[0]], strict=True):
            tensors[name] = tensor


def axes_not_exchanged(tensors) -> None:
    for name, tensor in tensors.items():
        if "conv_pw" in name:
            tensors[name] = tensor.transpose(1, 0, 2, 3).reshape(tensor.shape)


def scales_for_offsets(tensors) -> None:
    for name in [name for name in tensors if "bn" in name and name.endswith(".weight")]:
        offset = name.replace(".weight", ".bias")
        tensors[name], tensors[offset] = tensors[offset], tensors[name]


@pytest.mark.thorough
@pytest.mark.parametrize("change", [kernels_in_each_others_place, axes_not_exchanged])
def test_tensors_that_fit_and_are_others_are_refused(damaged, change):
    with pytest.raises(
        exits.CannotRun, match="BatchNormalization layers of --model=efficientnet_lite0 see other inputs"
    ):
        damaged(change)


@pytest.mark.thorough
def test_scales_for_offsets_are_refused(damaged):
    with pytest.raises(exits.CannotRun, match="are mostly below zero"):
        damaged(scales_for_offsets)


def symmetric(config: dict) -> dict:
    """A functional model's configuration with half the kernel on either side of strided convolutions, as PyTorch pads."""
    config = json.loads(json.dumps(config))
    layers = []
    for layer in config["layers"]:
        how = layer["config"]
        if how.get("strides") in ([2, 2], 2) and how.get("padding") == "same":
            how["padding"] = "valid"
            side = how["kernel_size"][0] // 2
            name = f"{how['name']}_pad"
            pad = {"module": "keras.layers", "class_name": "ZeroPadding2D", "registered_name": None, "name": name,
                   "inbound_nodes": layer["inbound_nodes"], "config": {"name": name, "padding": [[side] * 2] * 2}}  # fmt: skip
            layers.append(pad)
            before = layer["inbound_nodes"][0]["args"][0]
            history = [name, 0, 0]
            layer["inbound_nodes"] = [
                {"args": [{**before, "config": {**before["config"], "keras_history": history}}], "kwargs": {}}
            ]
        layers.append(layer)
    return config | {"layers": layers}
