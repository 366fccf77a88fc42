"""Errors of the input, the disk or the directory end in one sentence and the right code, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time

import pytest

from support import QUICK, Outcome, command, environment


def assert_sentence(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome
    said = [line for line in outcome.err.splitlines() if line.startswith("convoy: ")]
    assert len(said) == 1, outcome
    assert "Traceback" not in outcome.err, outcome
    assert all(word in said[0] for word in words), outcome


def test_a_missing_folder_is_refused(convoy):
    assert_sentence(convoy("train", "--dataset=folder:absent"), 78, "absent", "does not exist")


@pytest.mark.thorough
def test_an_empty_class_is_refused(convoy, photographs):
    (photographs / "bird").mkdir()
    assert_sentence(convoy("train", f"--dataset=folder:{photographs}", "--image_size=16"), 65, "bird", "no image")


@pytest.mark.parametrize("cache", [[], ["--cache_bytes=0"]], ids=["in memory", "as drawn"])
def test_an_unreadable_image_is_named(convoy, photographs, cache):
    (photographs / "cat" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    outcome = convoy(
        "train", f"--dataset=folder:{photographs}", "--image_size=16", "--batch_size=8", "--run_dir=r", *cache
    )
    assert_sentence(outcome, 65, "cat/003.png", "cannot be decoded")


def test_a_misspelled_data_set_is_refused_with_the_right_name(convoy):
    assert_sentence(convoy("train", "--dataset=cifar1o"), 78, "--dataset=cifar1o", "did you mean cifar10?")


def test_a_directory_of_other_files_is_refused_and_stays(convoy, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("")
    assert_sentence(convoy("train", *QUICK, "--run_dir=thesis"), 78, "chapter1.tex", "no run of Convoy")
    assert sorted(path.name for path in (tmp_path / "thesis").iterdir()) == ["chapter1.tex"]


def test_a_read_only_directory_is_refused(convoy, tmp_path):
    folder = tmp_path / "fixed"
    folder.mkdir()
    if os.geteuid() == 0:
        # Modes do not stop root; a read-only mount does.
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", folder], check=False, capture_output=True
        )
        if mounted.returncode:
            pytest.skip(f"root may not mount here: {mounted.stderr.decode().strip()}")
    else:
        folder.chmod(0o555)
    try:
        assert_sentence(convoy("train", *QUICK, f"--run_dir={folder}/run"), 78, str(folder), "--run_dir")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", folder], check=True)
        else:
            folder.chmod(0o755)


def test_a_disk_that_fills_up_during_a_save_harms_no_checkpoint(convoy, tmp_path):
    run_dir = tmp_path / "run"
    assert convoy("train", *QUICK, "--duration=20st", f"--run_dir={run_dir}").code == 0
    saved = run_dir / "checkpoints" / "00000020.1"
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def small_files():
        # Larger than any record, smaller than the weights: the write of a checkpoint fails half-way, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        command("train", *QUICK, f"--run_dir={run_dir}"), env=environment(PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=small_files, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert_sentence(Outcome(done), 78, "cannot write", "checkpoints/00000040.2", "what was saved before is untouched")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert not (run_dir / "checkpoints" / "00000040.2" / "MANIFEST.json").exists()
    assert convoy("train", *QUICK, f"--run_dir={run_dir}").code == 0, "with space again, the run goes on"


def test_a_second_process_in_a_run_directory_is_refused(convoy, tmp_path):
    first = subprocess.Popen(
        command("train", *QUICK, "--duration=100000ep", f"--run_dir={tmp_path / 'run'}"), env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / ".lock").exists():
            assert first.poll() is None
            assert time.monotonic() < deadline
        assert_sentence(
            convoy("train", *QUICK, f"--run_dir={tmp_path / 'run'}"), 78, "another process is training there"
        )
    finally:
        first.kill()
        first.wait()


@pytest.mark.thorough
def test_data_that_changed_under_a_run_is_refused(convoy, photographs):
    argv = ["train", f"--dataset=folder:{photographs}", "--image_size=16", "--batch_size=8", "--duration=10st",
            "--eval_split=none", "--run_dir=run"]  # fmt: skip
    assert convoy(*argv).code == 0
    shutil.copy(photographs / "cat" / "000.jpg", photographs / "cat" / "new.jpg")
    outcome = convoy(*argv, "--duration=20st")
    assert_sentence(outcome, 78, "the split train had 24 examples and has 25")
    (photographs / "cat" / "new.jpg").unlink()
    (photographs / "cat").rename(photographs / "zebra")  # the labels would change places
    outcome = convoy("evaluate", "--run_dir=run", "--split=train")
    assert_sentence(outcome, 78, "it has no class cat any more; it had no class zebra before")


def test_a_bad_test_split_is_found_before_training(convoy, photographs, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(photographs, root / "train")
    shutil.copytree(photographs, root / "test")
    (root / "test" / "dog" / "000.jpg").write_bytes(b"nothing")
    outcome = convoy("train", f"--dataset=folder:{root}", "--image_size=16", "--batch_size=8", "--run_dir=run")
    assert_sentence(outcome, 65, "test/dog/000.jpg")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_passed_over(convoy, tmp_path):
    run_dir = tmp_path / "run"
    assert convoy("train", *QUICK, "--duration=40st", f"--run_dir={run_dir}").code == 0
    path = run_dir / "checkpoints" / "00000040.1" / "model.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    outcome = convoy("train", *QUICK, f"--run_dir={run_dir}")
    assert_sentence(outcome, 0, "checkpoints/00000040.1 is refused", "model.npz")
    assert "continues at step 20" in outcome.out


@pytest.mark.thorough
def test_a_model_whose_code_changed_is_refused(convoy, tmp_path):
    code = (
        "import keras\n"
        "def net(shape, classes):\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(),{} keras.layers.Dense(classes)])\n"
    )
    (tmp_path / "mine.py").write_text(code.format(""))
    argv = ["train", *QUICK, "--model=mine:net", "--run_dir=run", "--duration=20st"]
    assert convoy(*argv).code == 0
    (tmp_path / "mine.py").write_text(code.format(" keras.layers.Dense(5),"))
    assert_sentence(convoy(*argv, "--duration=40st"), 78, "--model=mine:net", "another model")
