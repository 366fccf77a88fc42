"""What TensorBoard gets of a finished run: pictures of the last measurement, flags and figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from convoy.store.local import LocalStore
from convoy.trainer.config import RunConfig
from convoy.trainer.logits import Logits
from convoy.trainer.report import board, charts, sheets
from convoy.trainer.report.pictures import Pictures

MEASURED = {"accuracy": 0.75, "loss": 0.5}


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path))


def write(store, classes=3, examples=40, channels=1, step=60):
    generator = np.random.default_rng(0)
    logits = Logits(
        np.arange(examples),
        generator.integers(0, classes, examples, np.int32),
        generator.normal(size=(examples, classes)),
    )
    index = np.arange(0, examples, 3)
    images = generator.integers(0, 255, (len(index), 8, 6, channels), dtype=np.uint8)
    names = [f"class {label}" for label in range(classes)]
    kept = Pictures(index, images, images[:0], images[:0])
    board.write(store, step, RunConfig().to_dict(), MEASURED, logits, names, kept)


def read_board(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    return events


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_that_ends_twice_shows_everything_once(store, tmp_path, channels):
    write(store, channels=channels)
    write(
        store, channels=channels, step=80
    )  # killed before result.json was there, or continued with a longer --duration
    events = read_board(tmp_path)
    assert {tag: [picture.step for picture in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "result/confusion": [80],
        "result/examples": [80],
    }
    picture = events.Images("result/examples")[0]
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (picture.width, picture.height)
    assert {tag: [point.value for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]} == {
        "result/accuracy": [0.75],
        "result/loss": [0.5],
    }


def test_the_hparams_tab_has_every_flag_and_the_figures(store, tmp_path):
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    write(store)
    events = read_board(tmp_path)

    def read(tag):
        content = events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(content)

    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"
    }  # fmt: skip
    tags = [info.name.tag for info in read("experiment").experiment.metric_infos]
    assert tags == ["result/accuracy", "result/loss"]
    assert read("session_end_info").session_end_info.status == api_pb2.STATUS_SUCCESS
    hparams = read("session_start_info").session_start_info.hparams
    flags = RunConfig().to_dict()
    assert set(hparams) == {name for name, value in flags.items() if value is not None}
    assert hparams["batch_size"].number_value == 128
    assert hparams["optimizer"].string_value == "adam"
    assert hparams["deterministic"].bool_value is False
    assert hparams["deterministic"].WhichOneof("kind") == "bool_value"


def test_no_matrix_of_more_classes_than_a_person_can_see(store, tmp_path):
    write(store, classes=101)
    assert read_board(tmp_path).Tags()["images"] == ["result/examples"]


def test_a_cell_is_as_dark_as_its_share_of_the_row():
    picture = Image.open(io.BytesIO(charts.matrix_png(np.array([[1, 1], [0, 2]]), ["a", "猫"]))).convert("RGB")
    colours = {colour: count for count, colour in picture.getcolors(1 << 24)}
    for share in (0.5, 1.0):
        shade = tuple(round(255 - share * (255 - level)) for level in (59, 130, 196))
        near = [count for colour, count in colours.items() if np.abs(np.subtract(colour, shade)).max() <= 2]
        assert sum(near) > 500, f"a cell in the shade of {share:.0%}"


@pytest.mark.parametrize("shape", [(8, 8), (224, 224), (32, 1000), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size_fit_the_sheet(shape, channels):
    png = sheets.examples(np.zeros((7, *shape, channels), np.uint8), ["名" * 40] * 7, ["\x1b[31m"] * 7)
    width, height = Image.open(io.BytesIO(png)).size
    assert height <= 2 * (192 + 40)
    assert width <= 6 * 200
