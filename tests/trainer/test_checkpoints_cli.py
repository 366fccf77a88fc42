"""`convoy checkpoints`: what it says, and that a copy is a run."""

from __future__ import annotations

import numpy as np
import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import Checkpoint, format
from convoy.trainer.checkpoints.snapshot import Snapshot
from convoy.trainer.loop.progress import Progress
from convoy.trainer.verbs.checkpoints import CHECKPOINTS

TENSORS = {"model/kernel": np.arange(6.0), "optimizer/step": np.array(7)}


@pytest.fixture
def store(tmp_path):
    """A run of three checkpoints, the second of which is the best."""
    store = LocalStore(str(tmp_path / "run"))
    store.put("config.json", b"{}")
    store.put("config.flags", b"--seed=1\n")
    store.rewrite("metrics.jsonl", "one\ntwo\nthree\n")
    for step, attempt in ((20, 1), (40, 1), (60, 2)):
        snapshot = Snapshot({name: (value.shape, value.dtype) for name, value in TENSORS.items()})
        best = {"step": 40, "loss": 1.0, "accuracy": 0.5}
        progress = Progress(step, position=8 * step, best=best if step >= 40 else None, lines=step // 20)
        state = {"progress": progress.to_dict(), "examples": 9, "classes": ["a", "b"]}
        format.write(store, Checkpoint(step, attempt), snapshot.write(TENSORS.items()), snapshot.tensors, state)
    return store


def damage(store, name):
    path = store.root / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_list_says_which_is_the_best_and_what_is_not_whole(store, capsys):
    store.put("checkpoints/00000080.2/model.npz", b"half")
    (store.root / "checkpoints" / "00000020.1" / "MANIFEST.json").write_text("[")
    assert CHECKPOINTS(["list", f"--run_dir={store.url}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["step", step, "attempt", attempt] for step, attempt in (("20", "1"), ("40", "1"), ("60", "2"), ("80", "2"))
    ]
    assert "damaged: MANIFEST.json does not read as one" in lines[0]
    assert "the best: 50.00%" in lines[1]
    assert "best" not in lines[2]
    assert "incomplete" in lines[3]


def test_verify_reads_all_of_it(store, capsys):
    assert CHECKPOINTS(["verify", f"--run_dir={store.url}"]) == 0
    assert capsys.readouterr().out.count("whole") == 3
    damage(store, "checkpoints/00000040.1/optimizer.npz")
    assert CHECKPOINTS(["verify", f"--run_dir={store.url}"]) == exits.BAD_DATA
    assert "step       40  attempt  1  damaged: optimizer.npz has another crc32c" in capsys.readouterr().out
    assert CHECKPOINTS(["verify", f"--run_dir={store.url}", "--checkpoint=60"]) == 0
    assert CHECKPOINTS(["verify", f"--run_dir={store.url}", "--checkpoint=best"]) == exits.BAD_DATA


@pytest.mark.parametrize(("which", "step", "attempt"), [("last", 60, 2), ("best", 40, 1), ("20", 20, 1)])
def test_a_copy_is_a_run_up_to_there(store, tmp_path, which, step, attempt):
    assert CHECKPOINTS(["copy", f"--run_dir={store.url}", f"--to={tmp_path}/copy", f"--checkpoint={which}"]) == 0
    copied = LocalStore(str(tmp_path / "copy"))
    assert format.complete(copied) == [Checkpoint(step, attempt)]
    tensors, state = format.read(copied, Checkpoint(step, attempt))
    assert state["progress"]["lines"] == step // 20
    np.testing.assert_array_equal(tensors["model/kernel"], TENSORS["model/kernel"])
    assert copied.get("metrics.jsonl").count(b"\n") == step // 20
    assert copied.get("config.json") == b"{}"
    with pytest.raises(exits.CannotRun, match="holds .*; give an empty"):
        CHECKPOINTS(["copy", f"--run_dir={store.url}", f"--to={tmp_path}/copy"])


def test_a_damaged_one_is_not_copied(store, tmp_path):
    damage(store, "checkpoints/00000060.2/model.npz")
    with pytest.raises(exits.CannotRun, match="is damaged: model.npz"):
        CHECKPOINTS(["copy", f"--run_dir={store.url}", f"--to={tmp_path}/copy"])
    assert LocalStore(str(tmp_path / "copy")).list_names() == []


def test_sentences(store, tmp_path):
    for argv, error, words in (
        (["list"], exits.CannotRun, "--run_dir is missing"),
        (["list", f"--run_dir={tmp_path}"], exits.CannotRun, "is no run"),
        (["verify", f"--run_dir={store.url}", "--checkpoint=30"], exits.CannotRun, "it has those of 20, 40, 60"),
        (["verify", f"--run_dir={store.url}", "--checkpoint=x"], exits.CannotRun, "give last, best or a step"),
        (["copy", f"--run_dir={store.url}"], exits.CannotRun, "--to is missing"),
        (["lst"], exits.UsageError, "did you mean `convoy checkpoints list`"),
    ):
        with pytest.raises(error, match=words):
            CHECKPOINTS(argv)
