"""Weights of a stranger: no code is run, no other file is read, and no more memory is taken than the file has bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import zipfile

import h5py
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.models.pretrained import archive, hdf5, safe_tensors, sources
from mutations import SEED, case, counts, torn

HUGE = 1 << 40


def safetensors_file(header: object, numbers: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def entry(shape=(4,), offsets=(0, 16), kind="F32"):
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


RIGHT = {"a.weight": entry()}


def test_a_right_file_is_read():
    tensors = safe_tensors.tensors(safetensors_file(RIGHT, np.arange(4, dtype=np.float32).tobytes()), "x")
    assert tensors["a.weight"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff" * 7, b"\xff" * 200,
        safetensors_file(RIGHT, length=HUGE), safetensors_file(RIGHT, length=2**64 - 1), safetensors_file(RIGHT, length=0),
        safetensors_file(RIGHT, numbers=b""), safetensors_file(RIGHT, numbers=bytes(17)),
        safetensors_file({"a": entry(shape=(HUGE,))}), safetensors_file({"a": entry(shape=(2**33, 2**33))}),
        safetensors_file({"a": entry(shape=(0, HUGE))}), safetensors_file({"a": entry(shape=(-4,))}),
        safetensors_file({"a": entry(offsets=(0, HUGE))}), safetensors_file({"a": entry(offsets=(8, 24))}),
        safetensors_file({"a": entry(offsets=(16, 0))}), safetensors_file({"a": entry(kind="F32 ")}),
        safetensors_file({"a": entry(), "b": entry()}), safetensors_file({"a": entry(kind="F8_E4M3", shape=(16,))}),
        safetensors_file(b"[" * 10_000 + b"]" * 10_000), safetensors_file([]), safetensors_file({"a": 1}),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_a_sentence(data):
    with pytest.raises(exits.BadData, match=r"^x (is no sound|has a tensor)") as error:
        safe_tensors.tensors(data, "x")
    assert str(error.value).isprintable()


def hdf5_file(fill) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def variables(file: h5py.File) -> h5py.Group:
    return file.create_group("layers/dense/vars")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    variables(file).create_virtual_dataset("0", layout)


def linked(file: h5py.File) -> None:
    variables(file)["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(file: h5py.File) -> None:
    variables(file)["0"] = h5py.SoftLink("/layers")


def cycle(file: h5py.File) -> None:
    group = file.create_group("layers/dense")
    group["inner"] = file["layers"]


def twice(file: h5py.File) -> None:
    group = variables(file)
    group["0"] = np.zeros(1000)
    for index in range(1, 50):
        group[str(index)] = group["0"]


def deep(file: h5py.File) -> None:
    group = file
    for _ in range(60):
        group = group.create_group("a")


ODD = {
    "declared, not stored": lambda file: variables(file).create_dataset("0", (HUGE,), "f4"),
    "declared in pieces": lambda file: variables(file).create_dataset("0", (HUGE,), "f4", chunks=(1024,)),
    "compressed": lambda file: variables(file).create_dataset("0", data=np.zeros(1 << 20), compression="gzip"),
    "numbers of another file": lambda file: variables(file).create_dataset(
        "0", (4,), "f4", external=[("/etc/passwd", 0, 16)]
    ),
    "virtual": virtual,
    "a link to another file": linked,
    "a link inside": soft,
    "a cycle": cycle,
    "one dataset many times": twice,
    "groups without end": deep,
    "texts": lambda file: variables(file).create_dataset("0", data=[b"abc", b"d"]),
    "objects": lambda file: variables(file).create_dataset("0", data="text"),
    "a group for numbers": lambda file: variables(file).create_group("0"),
    "a layer that is not there": lambda file: file.attrs.update({"layer_names": [b"dense"]}),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_hdf5_file_is_a_sentence(what):
    with pytest.raises(exits.BadData, match="^x (has|is)") as error:
        hdf5.layers(hdf5_file(ODD[what]), "x")
    assert str(error.value).isprintable()


def keras_file(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


LAMBDA = {"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda", "config": {"name": "mine"}}]}}
HARMLESS = b'{"class_name": "Functional"}'


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no sound .keras file"),
        (keras_file({"config.json": HARMLESS}), "has 0 members model.weights.h5"),
        (keras_file({"config.json": HARMLESS, "model.weights.h5": bytes(1 << 20)}, zipfile.ZIP_DEFLATED), "compressed"),
        (keras_file({"config.json": json.dumps(LAMBDA).encode(), "model.weights.h5": b""}), "Python code, a layer mine"),
        (keras_file({"config.json": b"[" * 10_000 + b"]" * 10_000, "model.weights.h5": b""}), "nested too deep"),
    ],
)  # fmt: skip
def test_an_odd_keras_file_is_a_sentence(data, sentence):
    with pytest.raises((exits.BadData, exits.CannotRun), match=sentence):
        archive.weights(data, "x")


def test_a_member_that_says_another_size_is_a_sentence():
    data = bytearray(keras_file({"config.json": HARMLESS, "model.weights.h5": bytes(8)}))
    at = data.rfind(b"PK\x01\x02") + 24  # the sizes in the directory
    data[at - 4 : at + 4] = struct.pack("<II", 2**31, 2**31)
    with pytest.raises(exits.BadData, match=r"^x (is no sound|has a compressed)"):
        archive.weights(bytes(data), "x")


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "climbs"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    place = tmp_path / "weights.safetensors"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "large":
        with place.open("wb") as file:
            file.truncate(HUGE)
    name = "../weights.safetensors" if kind == "climbs" else str(place)
    source = sources.find(name)
    with pytest.raises((exits.BadData, exits.CannotRun, FileNotFoundError)):
        source.read(source.files[0])


@pytest.mark.parametrize("config", ["[]", "{}", '{"architecture": 7}', '{"architecture": "x", "pretrained_cfg": []}', "\xff",
                                    '{"architecture": "x", "pretrained_cfg": {"input_size": [3, 1e9, 1e9]}}',
                                    '{"architecture": "x", "pretrained_cfg": {"crop_pct": 1e-30}}', "[" * 10_000])  # fmt: skip
def test_an_odd_config_is_a_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises((exits.BadData, exits.CannotRun), match="config"):
        sources.find(str(tmp_path))


@counts(200)
def test_damaged_files_are_read_or_refused(count):
    """Any change of a right file is read as numbers, or refused in a sentence; nothing else is raised."""
    right = {
        safe_tensors.tensors: safetensors_file(RIGHT, np.arange(4, dtype=np.float32).tobytes()),
        hdf5.layers: hdf5_file(lambda file: variables(file).create_dataset("0", data=np.ones((4, 4), np.float32))),
    }
    for read, data in right.items():
        for number in range(count):
            with case(SEED, number) as chance, contextlib.suppress(exits.BadData):
                read(torn(data, chance), "x")
