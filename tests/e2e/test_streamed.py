"""A run whose records stay in a bucket, behind a network that breaks at random, and that is killed on its way."""

from __future__ import annotations

import os

import pytest
from packed_sets import send

from buckets import faulty
from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.records.packing import pack
from support import QUICK, assert_same_bits


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_broken_and_killed_it_ends_with_the_bits_of_a_copy(bucket, tmp_path, convoy, backend):
    pack(DataConfig(), tmp_path / "packed", 100_000)
    send(tmp_path / "packed", bucket)
    flags = [*QUICK, "--order=blocked:16", f"--backend={backend}"]
    local = convoy("train", *flags, f"--dataset=records:{tmp_path / 'packed'}", "--run_dir=local")
    assert local.code == exits.OK, local
    flags += [f"--dataset=records:{bucket}", f"--data_dir={tmp_path / 'data'}", "--run_dir=streamed"]
    with faulty(os.environ["STORAGE_EMULATOR_HOST"], "--seed=7", "--rate=0.1", "--seconds=0.2") as url:
        killed = convoy("train", *flags, chaos="kill:step@40", STORAGE_EMULATOR_HOST=url)
        assert killed.code == exits.TRY_AGAIN, killed
        streamed = convoy("train", *flags, STORAGE_EMULATOR_HOST=url)
    assert streamed.code == exits.OK, streamed
    assert_same_bits(tmp_path / "local", tmp_path / "streamed")
    assert not list((tmp_path / "data").rglob("*.tfrecord"))
