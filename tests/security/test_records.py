"""Packed records from a stranger: manifests and indices with right checksums and wrong content."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

import mutations
from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import split_of_records
from convoy.data.records.index import RECORD, check_index, index_bytes, read_index
from convoy.data.records.manifest import CorruptRecords, Entry, Manifest, parse_manifest, read_manifest
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from support import once


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    def make(place: Path) -> None:
        pack(DataConfig("synthetic:4x4x3:2:40"), place / "packed", 1000)

    return once(tmp_path_factory, "packed by a stranger", make) / "packed"


@pytest.fixture(scope="module")
def right(packed) -> dict:
    document = json.loads((packed / "MANIFEST.json").read_bytes())
    del document["crc32c"]
    return document


def signed(data: bytes) -> bytes:
    """A document with the checksum of its own text, if it is one."""
    try:
        content = json.loads(data)
        crc = f"{google_crc32c.value(json.dumps(content).encode()):08x}"
        return json.dumps({**content, "crc32c": crc}).encode()
    except (ValueError, TypeError, RecursionError):
        return data


def outcome(read: Callable[[], Any]) -> Any:
    """What a reader returns; None for a typed error with a printable sentence."""
    error: Exception
    try:
        return read()
    except (exits.ConvoyError, CorruptRecords) as raised:
        error = raised
    assert str(error).isprintable(), error
    return None


@mutations.counts(1000)
def test_any_manifest_is_right_or_a_typed_error(right, tmp_path, count):
    """No case ends in a traceback; accepted manifests name the files of their splits, all of them inside."""
    taken = 0
    with mutations.untouched(tmp_path):
        for number in range(count):
            with mutations.case(mutations.SEED, number) as chance:
                data = mutations.document(right, chance)
                data = signed(data) if chance.random() < 0.9 else data
                manifest = outcome(lambda data=data: parse_manifest(data, "MANIFEST.json"))
                if manifest is None:
                    continue
                taken += 1
                for name, split in manifest.splits.items():  # a run's identity is made of them
                    files = [(file, entry.bytes, entry.crc32c) for file, entry in manifest.files.items()]
                    assert len(split_of_records(split.examples, files).digest) == 32, name
                assert len(manifest.files) == sum(split.shards + 1 for split in manifest.splits.values()) < 100
                assert all("/" not in name and name not in (".", "..") for name in manifest.files)
    assert 0.05 * count < taken < 0.7 * count, "both kinds were met"


def changed_index(right: np.ndarray, chance: random.Random) -> bytes:
    """The file of an index with one error or none."""
    records = right.copy()
    data = index_bytes(records)
    match chance.randrange(6):
        case 0 | 1:
            field = chance.choice(RECORD.names)
            values = [-1, 0, 1, 2, 3, 4, 255, 2**31 - 1, -(2**31)]
            if records[field].dtype.kind == "f":
                values = [np.nan, np.inf, -0.5, 1.0, 0.5]
            elif records[field].dtype.itemsize == 8:
                values += [2**62, 2**63 - 1, -(2**63), 2**40]
            low, high = (0, 255) if field == "kind" else (-(2**63), 2**63)
            value = chance.choice([value for value in values if low <= value <= high])
            records[field][chance.randrange(len(records))] = np.array(value).astype(records[field].dtype)
            return index_bytes(records)
        case 2:
            return mutations.torn(data, chance)
        case 3:
            return index_bytes(chance.choice([records[:0], records[1:], records[::-1], np.repeat(records, 2)]))
        case 4:  # a header of another type or shape
            buffer = io.BytesIO()
            shapes = [(10**12,), (2**63,), (-1,), (len(records), 1), (), (0,), (True,), (len(records) + 1,)]
            descr = chance.choice([RECORD.descr, RECORD.descr, "|O", "<f8", ">i4", "|S53", RECORD.descr[:-1], "x"])
            header = {"descr": descr, "fortran_order": chance.random() < 0.3, "shape": chance.choice(shapes)}
            text = repr(header).encode() + chance.choice([b"", b" ", b")", b"(" * 500, b"\xff"])
            buffer.write(
                chance.choice([b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x09\x00", b"PK\x03\x04"])
            )
            buffer.write(len(text).to_bytes(2, "little") + text + records.tobytes())
            return buffer.getvalue()
        case _:
            return data


@mutations.counts(1000)
def test_any_index_is_right_or_damaged(packed, tmp_path, count):
    manifest = read_manifest(packed / "MANIFEST.json")
    right = read_index(packed / "train.index.npy")
    taken = 0
    for number in range(count):
        with mutations.case(mutations.SEED, number) as chance:
            data = changed_index(right, chance)
            (tmp_path / "index.npy").write_bytes(data)
            entry = Entry(len(data), f"{google_crc32c.value(data):08x}")
            entry = entry if chance.random() < 0.9 else None
            index = outcome(lambda entry=entry: read_index(tmp_path / "index.npy", entry))
            if index is None or outcome(lambda index=index: check_index(index, "train", manifest) or True) is None:
                continue
            taken += 1
            # Only the data themselves can contradict these fields.
            free = ("label", "content_hash", "crc32c", "image")
            for field in set(RECORD.names) - set(free):
                np.testing.assert_array_equal(index[field], right[field], field)
    assert 0.1 * count < taken < 0.7 * count


def test_hostile_records_end_in_a_sentence(packed, right, tmp_path):
    """Reads some of each kind all the way from a folder to images."""
    index = np.load(packed / "train.index.npy")
    for number in range(40):
        with mutations.case(mutations.SEED, number) as chance, mutations.untouched(tmp_path, tmp_path / "hostile"):
            folder = tmp_path / "hostile"
            folder.mkdir(exist_ok=True)
            for file in packed.iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
            if number % 2:
                (folder / "MANIFEST.json").write_bytes(signed(mutations.document(right, chance)))
            else:
                data = changed_index(index, chance)
                (folder / "train.index.npy").write_bytes(data)
                entry = {"bytes": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}
                document = mutations.replaced(right, ("files", "train.index.npy"), entry)
                (folder / "MANIFEST.json").write_bytes(signed(json.dumps(document).encode()))
            examples = outcome(lambda folder=folder: open_dataset(DataConfig(f"records:{folder}")).split("train"))
            if examples:
                images = outcome(lambda examples=examples: examples.fetcher()(np.arange(len(examples)), None)[0])
                assert images is None or images.shape == (40, 4, 4, 3)


def test_a_pipe_in_a_files_place_is_a_sentence(packed, tmp_path):
    for name in ("MANIFEST.json", "train.index.npy", "train-00000-of-00002.tfrecord"):
        folder = tmp_path / name
        shutil.copytree(packed, folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(exits.BadData, match="no regular file"):
            open_dataset(DataConfig(f"records:{folder}")).split("train")


def test_the_manifest_that_is_written_is_the_one_that_is_read(packed):
    manifest = read_manifest(packed / "MANIFEST.json")
    assert isinstance(manifest, Manifest)
    assert manifest.classes == open_dataset(DataConfig("synthetic:4x4x3:2:40")).class_names
    assert manifest.shape == (4, 4, 3)
    assert {name: entry.bytes for name, entry in manifest.files.items()} == {
        file.name: file.stat().st_size for file in packed.iterdir() if file.suffix in (".npy", ".tfrecord")
    }
