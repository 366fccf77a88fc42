"""A checkpoint folder with odd files, and checkpoints drawn from a seed."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from checkpoint_cases import forged
from checkpoint_files import STEP, Forgery, npy, npz, refused
from convoy import exits
from convoy.data.config import DataConfig
from convoy.store.checksum import crc32c
from convoy.trainer.checkpoints import Checkpoint, CheckpointManager, format
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.durations import MAX_STEPS
from convoy.trainer.outputs.records import MAX_ATTEMPTS
from convoy.trainer.run import run
from convoy.trainer.run_dir.opening import next_attempt
from convoy.trainer.verbs.checkpoints import CHECKPOINTS
from mutations import SEED, case, counts, untouched
from support import QUICK


@pytest.fixture
def forgery(tmp_path):
    return Forgery(tmp_path / "runs" / "one")


INSTEAD = {
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a link to itself": lambda path, outside: path.symlink_to(path),
    "a link outside": lambda path, outside: path.symlink_to(outside),
    "a folder": lambda path, outside: path.mkdir(),
}


@pytest.mark.parametrize("file", [STEP, "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("what", INSTEAD)
def test_no_pipe_link_or_folder_is_read_as_a_file(forgery, capsys, file, what):
    path, outside = forgery.folder / file, forgery.root.parent / "outside"
    path.rename(outside)
    INSTEAD[what](path, outside)
    if (file, what) == ("MANIFEST.json", "a folder"):
        assert format.complete(forgery.store) == [Checkpoint(20, 1)]
    else:
        assert refused(forgery, capsys, file) == exits.BAD_DATA


@pytest.mark.parametrize("file", [STEP, "state.json", "MANIFEST.json"])
def test_a_file_larger_than_memory_is_not_read(forgery, capsys, file):
    """A sparse file takes no place on a disk, and the manifest confirms its size."""
    forgery.write()
    if file != "MANIFEST.json":
        forgery.manifest["objects"][file]["bytes"] = 1 << 42
        (forgery.folder / "MANIFEST.json").write_text(json.dumps(forgery.manifest))
    os.truncate(forgery.folder / file, 1 << 42)
    code = refused(forgery, capsys, "this machine's memory has" if file == STEP else file)
    assert code == (exits.CANNOT_RUN if file == STEP else exits.BAD_DATA)


def test_objects_that_together_exceed_memory_are_not_read(forgery, capsys, monkeypatch):
    size = sum(len(data) for data in forgery.files.values())
    monkeypatch.setattr("convoy.data.memory.size", lambda: size)
    assert format.read(forgery.store, Checkpoint(40, 1))
    monkeypatch.setattr("convoy.data.memory.size", lambda: size - 1)
    with pytest.raises(format.CorruptCheckpoint, match=f"its objects have {size:,} bytes"):
        format.read(forgery.store, Checkpoint(40, 1))


WIDE = "\N{FULLWIDTH DIGIT ZERO}" * 8 + ".1"
NO_FOLDERS = [
    *("40.1", "000000060.1", "00000060.01", "00000060.1.1", "9" * 200 + ".1", "00000060." + "9" * 200, WIDE),
    *("00000060." + "9" * 18, "00000060.1000000001", "9" * 18 + ".1", "2147483648.1"),
]


def test_only_folders_that_a_run_makes_are_checkpoints(forgery):
    for name in NO_FOLDERS:
        forgery.folder.with_name(name).mkdir()
        (forgery.folder.with_name(name) / "MANIFEST.json").write_text("{}")
    assert format.complete(forgery.store) == [Checkpoint(20, 1), Checkpoint(40, 1)]
    assert format.attempts(forgery.store) == 1


@pytest.mark.parametrize("last", [Checkpoint(MAX_STEPS, 1), Checkpoint(60, MAX_ATTEMPTS)], ids=str)
def test_an_attempt_that_could_not_be_found_again_is_not_begun(forgery, last):
    def save(checkpoint):
        state = {**forgery.state, "progress": {**forgery.state["progress"], "step": checkpoint.step}}
        format.write(forgery.store, checkpoint, {}, {}, state)

    save(last)
    assert last in format.complete(forgery.store)
    with pytest.raises(AssertionError):
        save(Checkpoint(last.step + 1, last.attempt + 1))
    if last.attempt == MAX_ATTEMPTS:
        with pytest.raises(exits.BadData, match="checkpoints tells of attempt 1,000,000,000, which no run comes to"):
            next_attempt(forgery.store)
    else:
        assert next_attempt(forgery.store) == 2


def test_a_step_that_is_no_number_is_refused(forgery):
    for step in ("9" * 5000, "\N{FULLWIDTH DIGIT FOUR}0", "-1"):
        with pytest.raises(exits.CannotRun):
            CHECKPOINTS(["verify", f"--run_dir={forgery.root}", f"--checkpoint={step}"])


def test_a_run_without_an_intact_checkpoint_does_not_start_over(forgery):
    for folder in forgery.folder.parent.iterdir():
        (folder / "MANIFEST.json").write_text('{"schema": 2, "objects": {"state.json": 1}}')
    with pytest.raises(exits.BadData, match="every checkpoint in .* is damaged"):
        CheckpointManager(forgery.store, 1, 1).load_latest()


def test_records_of_a_copy_may_be_missing_but_must_be_text(forgery, tmp_path):
    records = forgery.root / "metrics.jsonl"
    records.write_bytes(b"\xff\n")
    with pytest.raises(exits.BadData, match="is not UTF-8"):
        CHECKPOINTS(["copy", f"--run_dir={forgery.root}", f"--to={tmp_path}/one"])
    records.unlink()
    assert CHECKPOINTS(["copy", f"--run_dir={forgery.root}", f"--to={tmp_path}/two"]) == exits.OK
    (forgery.root / "config.flags").unlink()
    with pytest.raises(exits.CannotRun, match=r"has no config\.flags"):
        CHECKPOINTS(["copy", f"--run_dir={forgery.root}", f"--to={tmp_path}/three"])


@pytest.mark.thorough
def test_a_run_continues_from_the_checkpoint_before_nan_weights(convoy, tmp_path):
    flags = [*QUICK, "--run_dir=run"]
    assert convoy("train", *flags, "--duration=40st").code == 0
    folder = tmp_path / "run" / "checkpoints" / "00000040.1"
    with np.load(folder / "model.npz") as members:
        weights = {
            path: np.full_like(value, np.nan) if value.dtype.kind == "f" else value for path, value in members.items()
        }
    data = npz(
        [
            (f"{path}.npy", npy(repr(value.dtype.str), str(value.shape), value.tobytes()))
            for path, value in weights.items()
        ]
    )
    (folder / "model.npz").write_bytes(data)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["objects"]["model.npz"] |= {"bytes": len(data), "crc32c": f"{crc32c(data):08x}"}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    outcome = convoy("train", *flags)
    assert outcome.code == 0, outcome
    assert "checkpoints/00000040.1 is refused: model.npz has numbers in model/" in outcome.err
    assert "continues at step 20" in outcome.out


def test_a_run_does_not_end_with_a_checkpoint_from_beyond_its_end(forgery, monkeypatch):
    """Such a run would end at once, without training."""
    monkeypatch.setattr("convoy.trainer.run_dir.opening.stored_config", lambda store: None)
    monkeypatch.setattr("convoy.trainer.run_dir.opening.refuse_other_model", lambda *values: None)
    data = DataConfig("synthetic:4x4x1:2:8", eval_split="none")
    with pytest.raises(exits.BadData, match="its checkpoint is of step 40, and the run ends at step 39"):
        run(RunConfig(str(forgery.root), data, batch_size=8, duration="39st", devices="cpu:1", report=False))


def outcome(forgery):
    """What becomes of the newer checkpoint; one that is read has the bits that NumPy and JSON read."""
    try:
        tensors, state = format.read(forgery.store, Checkpoint(40, 1))
    except (format.CorruptCheckpoint, exits.ConvoyError) as error:
        return "refused" if str(error).isprintable() else "not for a terminal"
    assert state == json.loads((forgery.folder / "state.json").read_bytes())
    for file, entry in json.loads((forgery.folder / "MANIFEST.json").read_bytes())["objects"].items():
        if file == "state.json":
            continue
        with np.load(forgery.folder / file, allow_pickle=False) as members:
            assert len(members) == len(entry["tensors"])
            for name in entry["tensors"]:
                value, member = tensors.pop(name), members[name.partition("/")[2]]
                assert (value.dtype, value.shape, value.tobytes()) == (member.dtype, member.shape, member.tobytes())
    assert not tensors
    return "read"


@counts(300)
def test_any_checkpoint_is_refused_or_read_bit_for_bit(forgery, tmp_path, count):
    outcomes = []
    with untouched(tmp_path, forgery.folder):
        for number in range(count):
            with case(SEED, number) as chance:
                forged(forgery, chance)
                outcomes.append(outcome(forgery))
    assert set(outcomes) == {"refused", "read"}
    assert 0.05 < outcomes.count("read") / len(outcomes) < 0.5


def test_commands_end_in_a_sentence(forgery, tmp_path, capsys):
    copies = tmp_path / "far" / "copies"
    copies.mkdir(parents=True)
    codes = set()
    with untouched(tmp_path, forgery.folder, copies):
        for number in range(50):
            with case(SEED, number) as chance:
                forged(forgery, chance)
                for argv in (["list"], ["verify"], ["copy", "--checkpoint=40", f"--to={copies}/{number}"]):
                    try:
                        code, sentence = CHECKPOINTS([*argv, f"--run_dir={forgery.root}"]), ""
                    except exits.ConvoyError as error:
                        code, sentence = error.code, str(error)
                    assert sentence.isprintable()
                    codes.add((argv[0], code))
    assert codes >= {("list", 0), ("verify", 0), ("verify", 65), ("copy", 0), ("copy", 65)}
    assert capsys.readouterr().out.replace("\n", "").isprintable()
