"""Weights that Keras publishes, and what KerasHub makes of timm's: the right file, and its layers by name."""

from __future__ import annotations

import hashlib
import inspect
import json
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from convoy import exits
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.models.build import build_model
from convoy.trainer.models.pretrained import downloads, keras_files
from convoy.trainer.models.pretrained.keras_files import KerasFile
from convoy.trainer.models.pretrained.loading import load
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.models.zoo import keras_names
from support import DATA

pytestmark = pytest.mark.slow
SMALL = "keras:MobileNetV3Small"
FILE = keras_files.FILES["MobileNetV3Small"].name


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras' cache, empty, and no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    return tmp_path / "keras" / "models"


def test_weights_that_keras_published(cache, monkeypatch):
    published = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=1000, classifier_activation=None, include_preprocessing=False
    )
    cache.mkdir(parents=True)
    published.save(cache / "one.h5")
    data = (cache / "one.h5").rename(cache / FILE).read_bytes()
    row = KerasFile(FILE, "x", hashlib.md5(data).hexdigest())
    monkeypatch.setitem(keras_files.FILES, "MobileNetV3Small", row)
    model = build_model(SMALL, (32, 32, 3), 3)
    loaded = load(model, SMALL, "imagenet", ("n01440764_tench", "mine", "n01443537"))
    theirs = {variable.path: keras.ops.convert_to_numpy(variable) for variable in published.variables}
    ours = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    shared = {path for path in ours if not path.startswith("logits")}
    assert len(shared) == 208
    assert all(np.array_equal(ours[path], theirs[path]) for path in shared)
    head = theirs["logits/kernel"].reshape(-1, 1000)  # a convolution of one pixel
    assert np.array_equal(ours["logits/kernel"][:, [0, 2]], head[:, [0, 1]])
    assert (loaded.record["classes_kept"], loaded.record["classes_new"]) == (2, 1)

    (cache / FILE).write_bytes(data + b"x")
    with pytest.raises(exits.CannotRun, match="is not what Keras published under this name"):
        load(model, SMALL, "imagenet", ("a", "b", "c"))
    assert (cache / FILE).exists()


def test_without_a_network_a_sentence_says_what_to_put_where(cache):
    with pytest.raises(exits.CannotRun) as error:
        downloads.weights(SMALL)
    sentence = str(error.value)
    for part in (
        FILE,
        "cannot be downloaded",
        keras_files.URL,
        "8768d4c2e7dee89b9d02b2d03d65d862",
        f"put it in {cache}.",
    ):
        assert part in sentence


def test_the_image_size_is_the_networks():
    config = RunConfig(data=DataConfig("folder:x"), model="keras:EfficientNetB1", pretrained="imagenet")
    assert settle(config).data.image_size == 240
    assert settle(config).data.crop_fraction == 0.875
    asked = RunConfig(data=DataConfig("folder:x", image_size=96), model="keras:EfficientNetB1", pretrained="imagenet")
    assert settle(asked).data.image_size == 96


def test_every_network_of_keras_has_a_file():
    assert keras_files.FILES.keys() == keras_names.NETWORKS.keys()


def test_digests_are_those_of_keras():
    folder = Path(inspect.getfile(keras.applications.VGG16)).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name, file in keras_files.FILES.items() if file.digest not in source] == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    ["ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "MobileNet", "MobileNetV2",
     "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "Xception"],
)  # fmt: skip
def test_files_are_those_that_keras_names(name, monkeypatch):
    class Asked(Exception):
        pass

    def get_file(fname: str, origin: str, *, cache_subdir: str, file_hash: str | None = None) -> None:
        raise Asked(fname, origin, cache_subdir, file_hash or "")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    file = keras_files.FILES[name]
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, name)(weights="imagenet")
    assert asked.value.args == (file.name, keras_files.URL + file.path, "models", file.digest)


def timm_resnet18(place, classes: int = 5):
    """A folder in timm's form with drawn numbers: tensors of resnet18 as torchvision names them."""
    generator = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def convolution(name: str, out: int, into: int, side: int) -> None:
        tensors[f"{name}.weight"] = generator.normal(0, 0.05, (out, into, side, side)).astype(np.float32)

    def normalization(name: str, size: int) -> None:
        tensors.update({f"{name}.{kind}": np.ones(size, np.float32) for kind in ("weight", "running_var")})
        tensors.update({f"{name}.{kind}": np.zeros(size, np.float32) for kind in ("bias", "running_mean")})
        tensors[f"{name}.num_batches_tracked"] = np.array(1)

    convolution("conv1", 64, 3, 7)
    normalization("bn1", 64)
    into = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            for index, size in ((1, into), (2, width)):
                convolution(f"layer{stage}.{block}.conv{index}", width, size, 3)
                normalization(f"layer{stage}.{block}.bn{index}", width)
            if into != width:
                convolution(f"layer{stage}.{block}.downsample.0", width, into, 1)
                normalization(f"layer{stage}.{block}.downsample.1", width)
            into = width
    tensors["fc.weight"] = generator.normal(0, 1, (classes, 512)).astype(np.float32)
    tensors["fc.bias"] = generator.normal(0, 1, classes).astype(np.float32)
    place.mkdir()
    save_file(tensors, place / "model.safetensors")
    how = {"tag": "a1_in1k", "input_size": [3, 224, 224], "crop_pct": 0.95, "mean": [0.485, 0.456, 0.406],
           "std": [0.229, 0.224, 0.225], "classifier": "fc"}  # fmt: skip
    names = ["ant", "bee", "cat", "dog", "eel"][:classes]
    config = {"architecture": "resnet18", "num_classes": classes, "label_names": names, "pretrained_cfg": how}
    (place / "config.json").write_text(json.dumps(config))
    return place, tensors


@pytest.mark.thorough
def test_kerashub_converts_weights_of_timm(tmp_path):
    pytest.importorskip("keras_hub")
    place, tensors = timm_resnet18(tmp_path / "timm")
    config = settle(RunConfig(data=DataConfig("folder:x"), pretrained=str(place)))
    assert (config.model, config.data.image_size, config.data.crop_fraction) == ("hub:resnet_18", 224, 0.95)
    model = build_model(config.model, (32, 32, 3), 2)
    loaded = load(model, config.model, str(place), ("dog", "ant"))
    ours = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    assert np.array_equal(ours["conv1_conv/kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(ours["logits/kernel"], tensors["fc.weight"].T[:, [3, 0]])
    assert (loaded.record["left"], loaded.record["classes_kept"]) == ([], 2)
    del tensors["layer4.1.conv2.weight"]
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(exits.CannotRun, match="is no resnet18 as KerasHub knows it"):
        load(model, config.model, str(place), ("dog", "ant"))


@pytest.mark.thorough
@pytest.mark.skipif(not (DATA / "pretrained").is_dir(), reason=f"no real weights in {DATA}")
def test_lite_that_was_trained_with_symmetric_padding_is_kerashubs(tmp_path):
    pytest.importorskip("keras_hub")
    place = DATA / "pretrained" / "efficientnet_lite0"
    config = json.loads((place / "config.json").read_text())
    how = config["pretrained_cfg"] | {"tag": "ra_in1k", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"pretrained_cfg": how}))
    (tmp_path / "model.safetensors").symlink_to(place / "model.safetensors")
    settled = settle(RunConfig(data=DataConfig("folder:x", image_size=64), pretrained=str(tmp_path)))
    assert settled.model == "hub:efficientnet_lite0"
    loaded = load(build_model(settled.model, (64, 64, 3), 2), settled.model, str(tmp_path), ("n01440764", "mine"))
    assert (loaded.record["left"], loaded.record["classes_kept"]) == ([], 1)


@pytest.mark.thorough
def test_a_preset_folder_of_kerashub(tmp_path):
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2], stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block",
        image_shape=(32, 32, 3),
    )  # fmt: skip
    classifier = hub.models.ResNetImageClassifier(backbone=backbone, num_classes=1000, preprocessor=None)
    place = str(tmp_path / "resnet_18_imagenet" / "2")
    classifier.save_to_preset(place)
    config = settle(RunConfig(data=DataConfig("folder:x"), pretrained=place))
    assert (config.model, config.data.image_size) == ("hub:resnet_18_imagenet", 224)
    model = build_model(config.model, (32, 32, 3), 2)
    loaded = load(model, config.model, place, ("dog", "n01440764"))
    theirs = {variable.path: keras.ops.convert_to_numpy(variable) for variable in classifier.variables}
    for variable in model.variables:
        if not variable.path.startswith("logits"):
            assert np.array_equal(keras.ops.convert_to_numpy(variable), theirs[variable.path])
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    assert np.array_equal(kernel[:, 1], theirs["predictions/kernel"][:, 0])
    assert (loaded.record["classes_kept"], loaded.record["classes_new"]) == (1, 1)
    (tmp_path / "resnet_18_imagenet").rename(tmp_path / "mine")
    with pytest.raises(exits.CannotRun, match="does not say of which network"):
        settle(RunConfig(data=DataConfig("folder:x"), pretrained=str(tmp_path / "mine" / "2")))
