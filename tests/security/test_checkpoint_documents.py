"""Manifests and states of a checkpoint that no run writes, and names that lead out of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from checkpoint_files import KERNEL, STEP, Forgery, refused
from convoy import exits
from convoy.trainer.metrics import TrainingSums
from convoy.trainer.verbs.checkpoints import CHECKPOINTS
from mutations import NAMES, untouched

pytestmark = pytest.mark.slow  # fuzzing


@pytest.fixture
def forgery(tmp_path):
    return Forgery(tmp_path / "runs" / "one")


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(name, str) and len(name) < 300], ids=ascii)
def test_only_names_that_a_run_gives_are_objects(forgery, capsys, name):
    forgery.write()
    forgery.manifest["objects"][name] = {**forgery.manifest["objects"][STEP], "tensors": []}
    forgery.write(json.dumps(forgery.manifest).encode())
    assert refused(forgery, capsys, "MANIFEST.json names '") == exits.BAD_DATA


CLIMBS = ["../../../x.npz", "../../../../secret/x.npz", "../00000020.1/optimizer.npz"]


def lead_outside(forgery, climbs):
    """An object whose name leads to an existing file of the right content."""
    forgery.write()
    place, objects = forgery.folder / climbs, forgery.manifest["objects"]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(forgery.files[STEP])
    objects[climbs] = objects.pop(STEP)
    forgery.write(json.dumps(forgery.manifest).encode())


@pytest.mark.parametrize("climbs", CLIMBS)
def test_an_object_outside_is_not_read(forgery, capsys, climbs):
    lead_outside(forgery, climbs)
    assert refused(forgery, capsys, climbs) == exits.BAD_DATA


@pytest.mark.parametrize("climbs", CLIMBS)
def test_a_copy_writes_nothing_outside(forgery, tmp_path, climbs):
    lead_outside(forgery, climbs)
    copied, code = tmp_path / "far" / "away" / "copy", 0
    copied.parent.mkdir(parents=True)
    with untouched(tmp_path, copied):
        try:
            CHECKPOINTS(["copy", f"--run_dir={forgery.root}", f"--to={copied}"])
        except exits.ConvoyError as error:
            code = error.code
    assert code == exits.BAD_DATA
    assert not [path for path in copied.rglob("*") if path.name != ".lock"]


ENTRIES = {
    "no size": {"bytes": None},
    "a size that is text": {"bytes": "10"},
    "a size that is true": {"bytes": True},
    "a negative size": {"bytes": -1},
    "half a byte": {"bytes": 10.5},
    "a size past all": {"bytes": 1 << 80},
    "a checksum that is a number": {"crc32c": 5},
    "a short checksum": {"crc32c": "5"},
    "a checksum in a list": {"crc32c": ["00000000"]},
    "a negative generation": {"generation": -1},
    "a generation that is true": {"generation": True},
    "a generation that is text": {"generation": "1"},
    "tensors that are text": {"tensors": "optimizer/step"},
    "tensors that are an object": {"tensors": {"optimizer/step": 1}},
    "tensors that are numbers": {"tensors": [1]},
    "a tensor that is not there": {"tensors": ["optimizer/other"]},
    "a tensor of another kind": {"tensors": ["model/step"]},
    "a tensor twice": {"tensors": ["optimizer/step", "optimizer/step"]},
    "a tensor more": {"tensors": ["optimizer/step", "optimizer/more"]},
    "no tensor": {"tensors": []},
    "a tensor that climbs": {"tensors": ["optimizer/../../step"]},
    "a tensor that commands a terminal": {"tensors": ["optimizer/\x1b[2J"]},
}


@pytest.mark.parametrize("what", ENTRIES)
def test_an_entry_of_another_kind_is_refused(forgery, capsys, what):
    forgery.write()
    forgery.manifest["objects"][STEP] |= ENTRIES[what]
    forgery.write(json.dumps(forgery.manifest).encode())
    assert refused(forgery, capsys, "optimizer") == exits.BAD_DATA


OBJECTS = {
    "no state": lambda objects: objects.pop("state.json"),
    "a file of several less": lambda objects: objects.pop(KERNEL),
    "a billion files": lambda objects: objects.update({"optimizer-00001-of-1000000000.npz": objects.pop(STEP)}),
    "a folder": lambda objects: objects.update({"more/optimizer.npz": objects.pop(STEP)}),
    "a number as an entry": lambda objects: objects.update({STEP: 5}),
    "nothing as an entry": lambda objects: objects.update({STEP: None}),
    "ten thousand objects": lambda objects: objects.update({f"x-{n:05d}-of-10000.npz": {} for n in range(1, 10_001)}),
}


@pytest.mark.parametrize("what", OBJECTS)
def test_a_manifest_of_other_objects_is_refused(forgery, capsys, what):
    OBJECTS[what](forgery.manifest["objects"])
    forgery.write()
    refused(forgery, capsys)


MANIFESTS = [
    b"", b"\xff\xfe", b"[]", b"null", b"3", b"[" * 100_000, b'{"schema": 2}', b'{"schema": 2, "objects": []}',
    b'{"schema": NaN}', b'{"schema": 3, "objects": {}}', b'{"schema": "\\u001b[2J", "objects": {}}',
    b'{"schema": ' + b"1" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("text", MANIFESTS, ids=lambda text: ascii(text)[:24])
def test_a_manifest_of_another_kind_is_refused(forgery, capsys, text):
    forgery.write(text)
    refused(forgery, capsys, "MANIFEST.json")


STATES = [
    b"", b"\xff", b"[" * 100_000, b"3", b"[]", b"{}", b'{"progress": NaN}', b'{"progress": null}', b'{"progress": [1]}',
    b'{"progress": {}}',
]  # fmt: skip


@pytest.mark.parametrize("text", STATES, ids=lambda text: ascii(text)[:24])
def test_a_state_of_another_kind_is_refused(forgery, capsys, text):
    forgery.files["state.json"] = text
    forgery.write()
    assert refused(forgery, capsys, "state.json") == exits.BAD_DATA


NOTHING = TrainingSums()
WINDOWS = [
    dataclasses.asdict(dataclasses.replace(NOTHING, **values))
    for values in (
        {"steps": 41, "examples": 1},
        {"steps": 1},  # an accuracy of 0 / 0
        {"examples": 1},
        {"steps": 1, "examples": 1, "correct": 2},
        {"steps": 1, "examples": 1, "skipped": 2},
        {"steps": 1, "examples": 1, "lossless": 1},
        {"steps": 1, "examples": 1, "correct": -1},
    )
]
PROGRESS = {
    "step": [-40, 39, True, 40.0, "40", None, 1 << 70],
    "evaluated": [-1, 41],
    "lines": [-1, False, 1e3, 1 << 63],
    "position": [-1, 39, None, "320", 320.0, True, 1 << 60, 10**3000],
    "shift": [0],  # of an older version, and not beside a position
    "skipped": [-1, 41],
    "skipped_in_a_row": [1],
    "timed_steps": [-1, 41],
    "timed_examples": [-1, None, True, "320", 1 << 60],
    "timed_seconds": ["1", None, True, -1, 10**3000],
    "wait_seconds": ["1", [], {}, -0.5],
    "window": [3, [], None, {"steps": 1}, {"steps": "1"}, *WINDOWS],
    "best": [
        "20",
        [],
        {"step": 20},
        {"step": None, "loss": 1, "accuracy": 1},
        {"step": 20, "loss": "1", "accuracy": 1},
        {"step": 41, "loss": 1, "accuracy": 1},
        {"step": -1, "loss": 1, "accuracy": 1},
        {"step": 20, "loss": 1, "accuracy": 1.5},
        {"step": 20, "loss": 1, "accuracy": -0.5},
    ],
    "another": [1],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in PROGRESS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_progress_that_no_run_makes_is_refused(forgery, capsys, field, value):
    forgery.state["progress"][field] = value
    forgery.files["state.json"] = json.dumps(forgery.state).encode()
    forgery.write()
    assert refused(forgery, capsys, "state.json") == exits.BAD_DATA


IDENTITIES = {
    "examples": [None, "9", -1, True, 9.5],
    "classes": [None, "ab", {}, [1], [["a"]]],
    "data": [
        3,
        [],
        {},
        {"source": "folder"},
        {"source": 1, "splits": {}},
        {"source": "folder", "splits": {"train": 3}},
    ],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in IDENTITIES.items() for value in values], ids=repr
)
def test_data_that_no_run_began_on_is_refused(forgery, capsys, field, value):
    """Training would refuse such a checkpoint, so `verify` must not call it whole."""
    forgery.state[field] = value
    if value is None:
        del forgery.state[field]
    forgery.files["state.json"] = json.dumps(forgery.state).encode()
    forgery.write()
    assert refused(forgery, capsys, "state.json") == exits.BAD_DATA


def test_progress_without_a_field_is_refused(forgery, capsys):
    # Those that older versions do not write are 0, or follow from others, where they are not there.
    for field in forgery.state["progress"].keys() - {"evaluations_since_best", "total_cut_short", "timed_examples"}:
        forgery.reset()
        del forgery.state["progress"][field]
        forgery.files["state.json"] = json.dumps(forgery.state).encode()
        forgery.write()
        assert refused(forgery, capsys, "state.json") == exits.BAD_DATA
