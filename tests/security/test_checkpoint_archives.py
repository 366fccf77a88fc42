"""Files of a checkpoint with right sizes and checksums whose content no run saves."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile

import numpy as np
import pytest

from checkpoint_files import KERNEL, REST, STEP, TENSORS, Forgery, npy, npz, refused
from convoy import exits
from convoy.trainer.checkpoints import Checkpoint, CheckpointManager


@pytest.fixture
def forgery(tmp_path):
    return Forgery(tmp_path / "runs" / "one")


def saved(save=np.savez, **tensors):
    file = io.BytesIO()
    save(file, **tensors)
    return file.getvalue()


def encrypted(data):
    """Sets the bit of encryption, in the member and in the directory."""
    at = data.index(b"PK\x01\x02")
    return data[:6] + b"\x01" + data[7 : at + 8] + b"\x01" + data[at + 9 :]


def another_number(data):
    at = data.index(b"PK\x01\x02") - 8
    return data[:at] + b"\x01" + data[at + 1 :]


def in_two_places():
    """Two entries of the directory that share one member, as in a zip bomb."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("step.npy", npy("'<i8'", "()", bytes(8)))
        archive.filelist.append(archive.filelist[0])
    return file.getvalue()


INT, EIGHT, SOUND = "'<i8'", bytes(8), saved(step=np.array(40))
FILES = {
    "nothing": b"",
    "no zip": b"no zip at all",
    "a pickle": pickle.dumps(np.array(1)),
    "a pickle as a member": npz([("step.npy", pickle.dumps(np.array(1)))]),
    "a cut member": npz([("step.npy", npy(INT, "()", EIGHT[:5]))]),
    "a long member": npz([("step.npy", npy(INT, "()", EIGHT * 2))]),
    "an empty member": npz([("step.npy", b"")]),
    "a header alone": npz([("step.npy", npy(INT, "()", b""))]),
    "a cut header": npz([("step.npy", npy(INT, "()", EIGHT)[:40])]),
    "an object": saved(step=np.array({"a": 1}, object)),
    "a huge shape": npz([("step.npy", npy(INT, "(1099511627776,)", EIGHT))]),
    "a shape that overflows": npz([("step.npy", npy(INT, "(4294967296, 4294967296)", EIGHT))]),
    "a huge shape of nothing": npz([("step.npy", npy(INT, "(0, 99999999999999999999)", b""))]),
    "a hundred dimensions": npz([("step.npy", npy(INT, "(" + "1, " * 99 + "1)", EIGHT))]),
    "a negative shape": npz([("step.npy", npy(INT, "(-1,)", EIGHT))]),
    "a shape that is true": npz([("step.npy", npy(INT, "(True,)", EIGHT))]),
    "a shape in deep brackets": npz([("step.npy", npy(INT, "(" * 9000 + ")" * 9000, EIGHT))]),
    "a type in deep brackets": npz([("step.npy", npy("[" * 5000 + "]" * 5000, "()", EIGHT))]),
    "a type that is code": npz([("step.npy", npy("__import__('os').getcwd()", "()", EIGHT))]),
    "a complex number": saved(step=np.array(1j, np.complex64)),
    "bytes": saved(step=np.array(b"40")),
    "text": saved(step=np.array("40")),
    "a date": saved(step=np.array("2026-01-01", "M8[s]")),
    "a record": saved(step=np.zeros((), [("a", "<i4"), ("b", "<i4")])),
    "void": saved(step=np.zeros((), "V8")),
    "a long double": saved(step=np.zeros((), np.longdouble)),
    "the big end first": saved(step=np.array(40, ">i8")),
    "Fortran's order": npz([("step.npy", npy(INT, "()", EIGHT, fortran="True"))]),
    "another version": npz([("step.npy", npy(INT, "()", EIGHT, magic=b"\x93NUMPY\x09\x00"))]),
    "a compressed member": saved(np.savez_compressed, step=np.array(40)),
    "a bomb": npz([("step.npy", npy(INT, "(4194304,)", bytes(32 << 20)))], zipfile.ZIP_DEFLATED),
    "an encrypted member": encrypted(SOUND),
    "a member twice": npz([("step.npy", npy(INT, "()", EIGHT)), ("step.npy", npy(INT, "()", EIGHT))]),
    "a member in two places": in_two_places(),
    "a member more": saved(step=np.array(40), more=np.array(1)),
    "another member": saved(other=np.array(40)),
    "no member": npz([]),
    "something before": b"#!/bin/sh\n" + SOUND,
    "something within": SOUND.replace(b"PK\x01\x02", b"something" + b"PK\x01\x02", 1),
    "another CRC-32": another_number(SOUND),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_no_run_saves(forgery, capsys, what):
    forgery.files[STEP] = FILES[what]
    forgery.write()
    assert refused(forgery, capsys, STEP) == exits.BAD_DATA


def replace_numbers(forgery, file, path, numbers):
    """Replaces the last numbers of a tensor."""
    members = [
        (name, content[: -len(numbers)] + numbers if name == f"{path}.npy" else content)
        for name, content in forgery.members(file)
    ]
    forgery.files[file] = npz(members)
    forgery.write()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("file", "path"), [(KERNEL, "conv/kernel"), (REST, "norm/moving")])
def test_weights_with_nan_are_never_the_last_good_ones(forgery, capsys, file, path, number):
    replace_numbers(forgery, file, path, TENSORS[f"model/{path}"].dtype.type(number).tobytes())
    refused(forgery, capsys, f"{file} has numbers in model/{path} that are not finite")
    manager = CheckpointManager(forgery.store, 2, 1)
    manager.load_latest()
    assert manager.last == Checkpoint(20, 1), "what a run that diverges names"


def test_a_boolean_is_zero_or_one(forgery, capsys):
    replace_numbers(forgery, REST, "is_built", b"\x07")
    refused(forgery, capsys, f"{REST} has truth values in model/is_built that are neither 0 nor 1")


@pytest.mark.parametrize(
    ("saved", "needed", "fits"),
    [
        (np.int64(2**31 - 1), "int32", True),
        (np.int64(2**31), "int32", False),  # the engines count in other types; NumPy and JAX make it -(2**31)
        (np.int64(2**40), "int32", False),
        (np.int32(-1), "int64", True),
        (np.int32(-1), "uint32", False),
        (np.uint64(2**63), "int64", False),
        (np.zeros((0, 3), np.int64), "int32", True),
        (np.array([1, 300], np.uint16), "uint8", False),
    ],
)
def test_only_a_type_that_holds_the_value_takes_it(saved, needed, fits):
    from convoy.trainer.engines import variables

    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="optimizer/step holds a number that"):
        variables.compare({"optimizer/step": (saved.shape, np.dtype(needed))}, {"optimizer/step": np.asarray(saved)})


def test_another_model_is_recognized_by_its_headers_before_anything_is_copied(forgery):
    def check(tensors):
        assert tensors.keys() == TENSORS.keys()
        for name, value in TENSORS.items():
            assert (tensors[name].shape, tensors[name].dtype) == (value.shape, value.dtype)
            assert not tensors[name].flags.owndata
        raise exits.CannotRun("another model")

    with pytest.raises(exits.CannotRun, match="another model"):
        CheckpointManager(forgery.store, 1, 1).load_latest(check)
