"""Networks of keras.applications and of KerasHub: what the tables say is what the libraries build, and blocks are timm's."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from convoy import cli, exits
from convoy.trainer.config import RunConfig
from convoy.trainer.models import blocks
from convoy.trainer.models.blocks import Rule
from convoy.trainer.models.build import build_model
from convoy.trainer.models.names import MODELS, network_of, networks, rules_of
from convoy.trainer.models.outline import assemble, preprocessing
from convoy.trainer.models.rescaling import note
from convoy.trainer.models.zoo import keras_names
from convoy.trainer.models.zoo.families import PIXELS
from support import REPOSITORY, environment

pytestmark = pytest.mark.slow
THOROUGH = pytest.mark.thorough
COUNTS = Path(__file__).with_name("network_counts.py")
GOLDEN = json.loads((Path(__file__).parent / "golden" / "timm_depths.json").read_text())["depths"]
SMALL = "keras:MobileNetV3Small"
IMAGES = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)


@functools.cache
def built(name: str, side: int = 32, classes: int = 10, channels: int = 3) -> keras.Model:
    """As it is initialised; no test may change its weights."""
    keras.utils.clear_session()  # automatic names count from 1
    return build_model(name, (side, side, channels), classes)


# A name of each family, the smallest.
FAMILIES = {
    row.family.title: name for name, row in sorted(keras_names.NETWORKS.items(), key=lambda pair: -pair[1].parameters)
}


def test_every_classifier_of_keras_has_a_row():
    known = {
        name
        for name, value in vars(keras.applications).items()
        if callable(value) and value.__module__.startswith("keras.src.applications.")
    }
    assert set(keras_names.NETWORKS) == known
    assert len(FAMILIES) == 15


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_scaled_as_keras_says_once(family):
    """Networks that scale inside have a preprocess_input that does nothing; the others are compared here, those below."""
    name = FAMILIES[family]
    row = keras_names.NETWORKS[name].family
    module = sys.modules[getattr(keras.applications, name).__module__]
    expected = module.preprocess_input(np.array(255 * IMAGES))
    assert np.array_equal(expected, 255 * IMAGES) == row.inside
    if not row.inside:
        ours = preprocessing(PIXELS[row.pixels], (32, 32, 3))(IMAGES)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def normalize(network: keras.Model, mean: tuple[float, ...], variance: np.ndarray | tuple[float, ...]) -> None:
    """What a file of weights says of EfficientNet's Normalization; assigning alone does nothing."""
    layer = network.get_layer("normalization")
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def stock(name: str, side: int, classes: int) -> keras.Model:
    """Keras' own network, as anybody builds it."""
    keras.utils.clear_session()
    return getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=classes, classifier_activation=None
    )


@THOROUGH
@pytest.mark.parametrize("name", FAMILIES.values())
def test_a_network_is_keras_own_with_its_preprocessing_within(name):
    family = keras_names.NETWORKS[name].family
    side = family.min_side
    ours, theirs = built(f"keras:{name}", side), stock(name, side, 10)
    last = next(layer for layer in reversed(theirs.layers) if layer.weights)
    places = {variable.path: variable for variable in theirs.variables}
    places |= {"logits/kernel": last.kernel, "logits/bias": last.bias}
    for variable in ours.weights:
        place = places[variable.path]
        place.assign(np.reshape(variable, place.shape))  # some end in a convolution of one pixel
    if family is keras_names.EFFICIENTNET:  # the only one whose preprocessing is in the file
        normalize(theirs, PIXELS["torch"].mean, np.square(PIXELS["torch"].deviation))
    images = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    module = sys.modules[getattr(keras.applications, name).__module__]
    expected = np.asarray(theirs(module.preprocess_input(255 * images), training=False))
    np.testing.assert_allclose(ours(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@THOROUGH
def test_efficientnet_is_what_weights_of_imagenet_make_of_it(monkeypatch):
    """weights="imagenet" adds a second scaling, which weights=PATH of the same file does not."""
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: "a file")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    keras.utils.clear_session()
    theirs = keras.applications.EfficientNetB0(weights="imagenet", include_top=False, input_shape=(32, 32, 3))
    before = keras.Model(theirs.input, theirs.get_layer("stem_conv_pad").input)
    normalize(theirs, PIXELS["torch"].mean, PIXELS["torch"].deviation)  # the file has deviations in place of variances
    ours = preprocessing(PIXELS[keras_names.EFFICIENTNET.pixels], (32, 32, 3))
    np.testing.assert_allclose(ours(IMAGES), before(255 * IMAGES), rtol=1e-4, atol=1e-5)


@THOROUGH
def test_a_network_is_built_for_the_size_of_its_images():
    """EfficientNetB1 built for any size pads 240 pixels otherwise: it sees 7x7 where it should see 8x8."""
    assert built("keras:EfficientNetB1", 240).get_layer("backbone").get_layer("top_activation").output.shape[1:3] == (
        8,
        8,
    )
    loose = keras.applications.EfficientNetB1(weights=None, include_top=False, input_shape=(None, None, 3))
    assert loose(np.zeros((1, 240, 240, 3), np.float32)).shape[1:3] != (8, 8)


@pytest.mark.parametrize("name", ["efficientnet_lite0", SMALL])
def test_the_outline_is_the_same_for_all(name):
    model = built(name)
    assert [layer.name for layer in model.layers] == ["image", "preprocess", "backbone", "head_dropout", "logits"]
    backbone = model.get_layer("backbone")
    assert isinstance(backbone, keras.Model)
    assert len(backbone.output_shape) == 2
    assert len({variable.path for variable in model.variables}) == len(model.variables)
    assert model(IMAGES).shape == (2, 10)
    assert note(model, name) == []


def test_grey_images_are_shown_as_three_equal_colours_and_blue_comes_first_where_it_did():
    grey = preprocessing(PIXELS["caffe"], (2, 2, 1))(np.full((1, 2, 2, 1), 0.5, np.float32))
    np.testing.assert_allclose(grey[0, 0, 0], 127.5 - np.array([103.939, 116.779, 123.68]), rtol=1e-5)
    red = preprocessing(PIXELS["caffe"], (1, 1, 3))(np.array([[[[1.0, 0, 0]]]], np.float32))
    np.testing.assert_allclose(red[0, 0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-5)


def tiny(channels: int, pixels: str) -> keras.Model:
    image = keras.Input((4, 4, 3))
    backbone = keras.Model(image, layers.Dense(2)(layers.Flatten()(image)), name="backbone")
    return assemble("tiny", (4, 4, channels), 5, PIXELS[pixels], backbone)


@pytest.mark.parametrize(("channels", "pixels"), [(1, "tf"), (3, "torch"), (3, "caffe")])
def test_the_outline_survives_a_file(tmp_path, pixels, channels):
    model, images = tiny(channels, pixels), IMAGES[:, :4, :4, :channels]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images), model(images))


def test_logits_and_preprocessing_are_in_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny(3, "tf")
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(IMAGES[:, :4, :4])
    kinds = [layer.compute_dtype for layer in (model.get_layer("preprocess"), model.get_layer("backbone").layers[-1])]
    assert [*kinds, keras.backend.standardize_dtype(logits.dtype)] == ["float32", "bfloat16", "float32"]


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (
            "keras:Xception",
            (32, 32, 3),
            "keras:Xception needs images of at least 71x71 pixels, these have 32x32; give a larger",
        ),
        ("efficientnet_lite0", (8, 32, 3), "at least 32x32 pixels, these have 32x8"),
        ("keras:VGG16", (32, 32, 4), "sees one or three colours, and these images have 4 channels"),
        ("hub:vgg_16", (128, 128, 3), "hub:vgg_16 needs images of at least 224x224"),
    ],
)
def test_images_that_a_network_cannot_see_are_a_sentence(name, shape, words):
    with pytest.raises(exits.CannotRun, match=words):
        build_model(name, shape, 10)


def test_without_keras_hub_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(exits.CannotRun, match=r"hub:resnet_50 needs KerasHub, .* pip install 'keras-convoy\[hub\]'"):
        build_model("hub:resnet_50", (32, 32, 3), 10)


# Blocks.

# Our name -> timm's, the images' side, and whether biases and normalizations are the same too, not kernels alone.
TIMM = {
    "efficientnet_lite0": ("efficientnet_lite0", 32, True),
    "resnet18": ("resnet18", 64, True),
    "resnet50": ("resnet50", 64, True),
    "keras:ConvNeXtTiny": ("convnext_tiny", 32, True),
    "keras:DenseNet121": ("densenet121", 32, True),
    "keras:EfficientNetB0": ("efficientnet_b0", 32, True),
    "keras:EfficientNetV2B0": ("tf_efficientnetv2_b0", 32, True),
    "keras:InceptionV3": ("inception_v3", 75, False),
    "keras:InceptionResNetV2": ("inception_resnet_v2", 75, False),
    "keras:MobileNet": ("mobilenetv1_100", 32, True),
    "keras:MobileNetV2": ("mobilenetv2_100", 32, True),
    "keras:MobileNetV3Large": ("tf_mobilenetv3_large_100", 32, True),
    "keras:ResNet50": ("resnet50", 32, False),
    "keras:ResNet50V2": ("resnetv2_50", 32, False),
    "keras:VGG16": ("vgg16", 224, True),
    "keras:Xception": ("legacy_xception", 71, True),
    "hub:csp_resnet_50": ("cspresnet50", 64, True),
    "hub:densenet_121": ("densenet121", 32, True),
    "hub:efficientnet_b0": ("efficientnet_b0", 32, True),
    "hub:hgnetv2_b0": ("hgnetv2_b0", 64, False),
    "hub:mobilenet_v3_large_100": ("mobilenetv3_large_100", 64, True),
    "hub:resnet_18": ("resnet18", 32, True),
    "hub:resnet_v2_50": ("resnetv2_50", 32, True),
    "hub:swin_tiny_patch4_window7": ("swin_tiny_patch4_window7_224", 224, True),
    "hub:vit_base_patch16": ("vit_base_patch16_224", 224, True),
}


@pytest.mark.parametrize(
    "name", [name if name == "efficientnet_lite0" else pytest.param(name, marks=THOROUGH) for name in TIMM]
)
def test_depths_are_timms(name):
    theirs, side, all_tensors = TIMM[name]
    model = built(name) if side == 32 else built(name, side)
    paths = {variable.path: variable for variable in model.trainable_variables}
    depths = blocks.depths([variable.path for variable in model.weights], rules_of(name))
    sums = [0] * (max(depths.values()) + 1)
    for path, variable in paths.items():
        if all_tensors or sum(side > 1 for side in variable.shape) > 1:
            sums[depths[path]] += math.prod(variable.shape)
    assert sums == [pair[all_tensors] for pair in GOLDEN[theirs]]


def test_blocks_in_between_and_the_head():
    rules = (
        Rule("stem", later=-1),
        Rule(r"b(?P<stage>\d)(?P<block>[a-z])"),
        Rule(r"t(?P<stage>\d)", joins=True),
        Rule("norm", joins=True),
    )
    depths = blocks.depths(["head", "norm", "b2a", "t1", "b1b", "b1a", "stem"], rules)
    assert depths == {"stem": 0, "b1a": 1, "b1b": 2, "t1": 2, "b2a": 3, "norm": 3, "head": 4}
    numbered = blocks.depths(["c", "c_2", "c_3", "c_7"], (Rule(r"c(_(?P<stage>\d+))?$", starts=(3, 5)),))
    assert numbered == {"c": 0, "c_2": 0, "c_3": 1, "c_7": 2}
    assert blocks.depths(["any"], ()) == {"any": 0}


# The list.

PAGE = REPOSITORY / "docs" / "networks.md"
MARKS = "<!-- networks -->\n", "<!-- end -->\n"


def table() -> str:
    rows = [
        "| --model= | parameters | pixels | FLOPs | scales inside, in the library | licence |",
        "|---|---|---|---|---|---|",
    ]
    for name, network in networks().items():
        inside = ("yes" if network.family.inside else "no") if name.startswith("keras:") else ""
        sizes = f"{network.parameters / 1e6:.1f} M | {network.side} | {network.multiplications / 1e9:.2f} G"
        rows.append(f"| `{name}` | {sizes} | {inside} | {network.family.licence or 'none published'} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_the_rows_of_the_tables():
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    written, _, after = rest.partition(MARKS[1])
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        PAGE.write_text(before + MARKS[0] + table() + MARKS[1] + after)
        written = table()
    assert written == table(), "CONVOY_UPDATE_GOLDEN=1 pytest tests/trainer/test_zoo.py writes it anew"


def test_the_list_imports_neither_keras_nor_keras_hub_and_says_the_same_in_both_forms(capsys):
    assert cli.dispatch(["models", "--like=VGG16", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {
        "model": "keras:VGG16",
        "family": "VGG",
        "source": "Simonyan and Zisserman 2015",
        "parameters": 138_357_544,
        "image_size": 224,
        "multiply_adds": row["multiply_adds"],
        "licence": "CC-BY-4.0",
        "weights": ["ImageNet-1k"],
    }
    assert cli.dispatch(["models", "--like=VGG16"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:6] == ["keras:VGG16", "138.4", "M", "224", f"{row['multiply_adds'] / 1e9:.2f}", "G"]
    program = "import sys; from convoy.cli import dispatch; dispatch(['models']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert not {"keras", "keras_hub", "tensorflow", "jax"} & set(done.stderr.split())
    assert len(done.stdout.splitlines()) > len(networks())


def test_no_network_of_that_name_is_a_sentence():
    with pytest.raises(
        exits.CannotRun, match=r"--like=resnet51: no network has that in its name; did you mean resnet50\?"
    ):
        cli.dispatch(["models", "--like=resnet51"])
    with pytest.raises(exits.CannotRun, match=r"--model=keras:ResNet51 is not possible: did you mean keras:ResNet50\?"):
        RunConfig(model="keras:ResNet51")
    with pytest.raises(exits.CannotRun, match="`convoy models` lists the networks of hub"):
        RunConfig(model="hub:nothing-like-it")


def test_the_row_has_the_numbers_of_the_network():
    for name in ("efficientnet_lite0", SMALL):
        model = built(name)
        backbone = sum(math.prod(variable.shape) for variable in model.get_layer("backbone").trainable_variables)
        features = model.get_layer("backbone").output_shape[-1]
        assert backbone + 1000 * (features + 1) == network_of(name).parameters


ALL = list(networks())


@THOROUGH
@pytest.mark.parametrize("part", range(8))
def test_every_row_has_the_numbers_of_its_network(part):
    names = ALL[part::8]
    argv = [sys.executable, COUNTS, *names]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    for line, name in zip(done.stdout.splitlines(), names, strict=True):
        row = network_of(name)
        assert json.loads(line) == [name, row.parameters, row.multiplications]


def test_a_preset_stands_for_its_network_and_names_are_few_letters_off():
    assert network_of("hub:vit_base_patch16_224_imagenet") is network_of("hub:vit_base_patch16")
    for row in networks().values():
        assert row.family.pixels in PIXELS
        assert row.parameters > 0
    assert MODELS.near("efficientnet_lite") == "did you mean efficientnet_lite0?"
