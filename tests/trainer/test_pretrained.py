"""Weights reach the variables that they are named after, or are refused in a sentence, whatever fits in shape."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

from convoy import exits
from convoy.outside import Name
from convoy.store import open_store
from convoy.trainer.models.pretrained import head, imagenet
from convoy.trainer.models.pretrained.loading import load

pytestmark = pytest.mark.slow  # networks

CLASSES = ("cat", "dog", "owl")
MEAN, DEVIATION = 0.5, 0.5


def network(classes: int = 3, extra: bool = False, colours: int = 3, named: bool = True) -> keras.Model:
    """The outline of a network for fine-tuning, with layers of every kind, some of them square."""

    def name(text: str) -> str | None:
        return text if named else None

    pixels = keras.Input((8, 8, colours))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=name("conv_stem"))(pixels)
    x = layers.BatchNormalization(name=name("bn1"))(x)
    x = layers.DepthwiseConv2D(3, padding="same", name=name("blocks.0.conv_dw"))(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1, name=name("blocks.0.conv_pw"))(x))
    x = layers.Dense(8, name=name("fc1"))(x)
    if extra:
        x = layers.Dense(8, name=name("between"))(x)
    x = layers.Dense(8, name=name("fc2"))(x)
    backbone = keras.Model(pixels, x, name="backbone")
    image = keras.Input((8, 8, colours), name="image")
    x = backbone(layers.Rescaling(1 / DEVIATION, -MEAN / DEVIATION, name="preprocess")(image))
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="tiny")


def drawn(model: keras.Model, seed: int = 1) -> keras.Model:
    """The same with other numbers in each variable, which no other has."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}


def as_timm(model: keras.Model) -> dict[str, np.ndarray]:
    """A model's tensors with PyTorch's names and axes."""
    names = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias", "moving_mean": "running_mean",
             "moving_variance": "running_var"}  # fmt: skip
    tensors = {"bn1.num_batches_tracked": np.array(5)}
    for path, value in values(model).items():
        layer, _, variable = path.rpartition("/")
        if value.ndim == 4:
            value = value.transpose((2, 3, 0, 1) if "conv_dw" in layer else (3, 2, 0, 1))
        value = value.T if value.ndim == 2 else value
        tensors[f"{layer.replace('logits', 'classifier')}.{names[variable]}"] = np.ascontiguousarray(value)
    return tensors


def timm_folder(place: Path, model: keras.Model, names: tuple[str, ...] = ("dog", "fox", "cat"), **how) -> Path:
    place.mkdir(exist_ok=True)
    save_file(as_timm(model), place / "model.safetensors")
    pretrained = {"tag": "tf_in1k", "mean": [MEAN] * 3, "std": [DEVIATION] * 3, "classifier": "classifier", **how}
    config = {"architecture": "tiny", "num_classes": len(names), "label_names": names, "pretrained_cfg": pretrained}
    (place / "config.json").write_text(json.dumps(config))
    return place


def assert_loaded(model: keras.Model, source: keras.Model) -> None:
    """All numbers but the head's are the source's."""
    theirs = values(source)
    for path, value in values(model).items():
        if not path.startswith("logits"):
            assert np.array_equal(value, theirs[path]), path


@pytest.fixture
def source():
    return drawn(network())


def test_a_timm_folder_by_names_and_axes(tmp_path, source):
    model = network()
    first = values(model)
    loaded = load(model, "tiny", str(timm_folder(tmp_path / "timm", source)), CLASSES)
    assert_loaded(model, source)
    theirs, ours = values(source), values(model)
    # cat is the source's last class, dog its first; owl is new, and fox is nobody's.
    for path in ("logits/kernel", "logits/bias"):
        assert np.array_equal(ours[path][..., :2], theirs[path][..., [2, 0]])
        assert np.array_equal(ours[path][..., 2], first[path][..., 2])
    assert "13 tensors loaded; the head, 2 of 3 classes with their weights" in loaded.notes[0]
    record = loaded.record
    assert (record["loaded"], record["left"], record["classes_kept"], record["classes_new"]) == (13, [], 2, 1)
    assert len(record["sha256"]) == 64


@pytest.mark.parametrize("order", [CLASSES, CLASSES[::-1]])
def test_the_order_of_classes_is_the_data_sets(tmp_path, source, order):
    model = network()
    load(model, "tiny", str(timm_folder(tmp_path / "timm", source, CLASSES)), order)
    columns = [CLASSES.index(name) for name in order]
    assert np.array_equal(values(model)["logits/kernel"], values(source)["logits/kernel"][:, columns])


@pytest.mark.slow
def test_a_folder_in_a_bucket(tmp_path, source, bucket):
    store = open_store(bucket)
    for file in timm_folder(tmp_path / "timm", source).iterdir():
        store.put(Name(f"weights/{file.name}"), file.read_bytes())
    for spec in (f"{bucket}/weights", f"{bucket}/weights/model.safetensors"):
        model = network()
        loaded = load(model, "tiny", spec, CLASSES)
        assert_loaded(model, source)
        assert f"{bucket}/weights/model.safetensors" in loaded.notes[0]
    with pytest.raises(exits.CannotRun, match="nothing that can be read is there"):
        load(network(), "tiny", f"{bucket}/none", CLASSES)


def test_other_numbers_of_pixels_are_refused(tmp_path, source):
    place = timm_folder(tmp_path / "timm", source, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    with pytest.raises(exits.CannotRun, match=r"was trained on pixels less \(0\.485, .*, and --model=tiny brings them"):
        load(network(), "tiny", str(place), CLASSES)


def test_other_padding_is_refused(tmp_path, source):
    place = timm_folder(tmp_path / "timm", source, tag="ra_in1k")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"architecture": "efficientnet_lite0"}))
    with pytest.raises(
        exits.CannotRun, match="was not trained with TensorFlow's padding, as --model=efficientnet_lite0"
    ):
        load(network(), "efficientnet_lite0", str(place), CLASSES)


@pytest.mark.parametrize("suffix", ["one.weights.h5", "one.keras", "one.h5"])
def test_files_of_keras_by_the_names_of_layers(tmp_path, source, suffix):
    """Keras' own loading into a second network of a process may load nothing, as names that it makes up are others then."""
    place = tmp_path / suffix
    source.save_weights(place) if suffix.endswith(".weights.h5") else source.save(place)
    keras.utils.clear_session()
    network(named=False)
    model = network()
    loaded = load(model, "tiny", str(place), CLASSES)
    assert_loaded(model, source)
    assert (loaded.record["loaded"], loaded.record["classes_new"]) == (13, 3)


def test_names_that_keras_made_up_are_taken_by_rank(tmp_path):
    keras.utils.clear_session()
    source = drawn(network(named=False))
    source.save_weights(tmp_path / "one.weights.h5")
    model = network(named=False)  # conv2d_2 and so on
    assert not values(model).keys() & values(source).keys() - {"logits/kernel", "logits/bias"}
    load(model, "tiny", str(tmp_path / "one.weights.h5"), CLASSES)
    ours, theirs = ([v for path, v in values(m).items() if "logits" not in path] for m in (model, source))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("named", [True, False])
def test_one_more_layer_shifts_no_weights(tmp_path, source, named):
    """By order, as Keras loads, `between` would get the weights of fc2, which fit."""
    keras.utils.clear_session()
    drawn(network(named=named)).save_weights(tmp_path / "one.weights.h5")
    model = network(extra=True, named=named)
    before = values(model)
    sentence = r"nothing for 2 of the 15 variables that --model=tiny needs, the first is between/kernel"
    sentence = sentence if named else "has 2 layers dense without a name of its own, and --model=tiny 3"
    with pytest.raises(exits.CannotRun, match=sentence):
        load(model, "tiny", str(tmp_path / "one.weights.h5"), CLASSES)
    after = values(model)
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_another_shape_is_a_sentence(tmp_path):
    drawn(network(colours=1)).save_weights(tmp_path / "grey.weights.h5")
    with pytest.raises(
        exits.CannotRun, match=r"shape \(3, 3, 1, 8\) for the variable conv_stem/kernel .* number of colours"
    ):
        load(network(), "tiny", str(tmp_path / "grey.weights.h5"), CLASSES)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bn1.running_var": -np.ones(8, np.float32)}, "bn1/moving_variance are below zero"),
        ({"bn1.running_var": np.zeros(8, np.float32)}, "bn1/moving_variance are all zero"),
        ({"bn1.weight": -np.ones(8, np.float32)}, "bn1/gamma are mostly below zero"),
        ({"conv_stem.weight": np.full((8, 3, 3, 3), np.nan, np.float32)}, "conv_stem/kernel are not finite"),
        ({"blocks.0.conv_pw.weight": np.full((8, 8, 1, 1), 3e38, np.float32)}, "features that are not finite"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_what_their_name_says(tmp_path, source, change, sentence):
    place = timm_folder(tmp_path / "timm", source)
    save_file(as_timm(source) | change, place / "model.safetensors")
    with pytest.raises(exits.CannotRun, match=sentence):
        load(network(), "tiny", str(place), CLASSES)


def test_exchanged_statistics_are_refused(tmp_path, source):
    place, tensors = timm_folder(tmp_path / "timm", source), as_timm(source)
    tensors["bn1.running_mean"] -= 1
    tensors["bn1.running_mean"], tensors["bn1.running_var"] = tensors["bn1.running_var"], tensors["bn1.running_mean"]
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(exits.CannotRun, match="are below zero, and are called a variance"):
        load(network(), "tiny", str(place), CLASSES)


def test_what_nothing_takes_is_told(tmp_path, source):
    place = timm_folder(tmp_path / "timm", source)
    save_file(as_timm(source) | {"aux.weight": np.ones((2, 2), np.float32)}, place / "model.safetensors")
    loaded = load(network(), "tiny", str(place), CLASSES)
    assert (loaded.record["left"], loaded.record["left_count"]) == (["aux.weight"], 1)
    assert "13 tensors loaded, 1 left" in loaded.notes[0]


def test_half_precision_is_read(tmp_path, source):
    place = timm_folder(tmp_path / "timm", source)
    save_file(
        {name: tensor.astype(np.float16) for name, tensor in as_timm(source).items()}, place / "model.safetensors"
    )
    model = network()
    load(model, "tiny", str(place), CLASSES)
    for path, value in values(source).items():
        if not path.startswith("logits"):
            assert np.allclose(values(model)[path], value, atol=1e-3)


def test_classes_are_the_same_whatever_their_spaces():
    known = [("n1", "great grey owl"), ("n2", "crane"), ("n3", "crane"), ("n4", "tench")]
    names = ("Great_Grey-Owl", "crane", "n00000004_tench", "tench", "nothing")
    assert head.rows(names, known) == {0: 0, 3: 3}
    assert head.rows(("n01440764", "n01443537_goldfish"), imagenet.class_names()) == {0: 0, 1: 1}


def test_a_head_of_one_pixel_is_one():
    kernel, bias = np.ones((1, 1, 8, 5)), np.ones(5)
    assert [tensor.shape for tensor in head.as_dense([kernel, bias], 8) or ()] == [(8, 5), (5,)]
    assert head.as_dense([kernel, bias], 9) is None
    assert head.as_dense([np.ones((3, 3, 8, 5)), bias], 8) is None
