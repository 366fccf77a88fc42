"""`convoy predict` as a person starts it: a parent and a child, and nothing but predictions on stdout."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time

import pytest

from support import QUICK, Outcome, command, environment, write_images

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def photographs_run(tmp_path_factory):
    """A run whose photographs are gone, and new ones."""
    home = tmp_path_factory.mktemp("predict")
    write_images(home / "photos", ("cat", "dog"), each=12)
    argv = command("train", f"--dataset=folder:{home / 'photos'}", "--image_size=16", "--batch_size=8", "--duration=40st",
                   f"--run_dir={home / 'run'}")  # fmt: skip
    subprocess.run(argv, env=environment(), check=True, capture_output=True, timeout=150)
    shutil.rmtree(home / "photos")
    write_images(home / "new", ("cat", "dog"), each=3, first=7)
    (home / "new" / "notes\x1b[2J.png").write_text("none")
    return home


def predictions(outcome: Outcome) -> dict[str, dict[str, float]]:
    """file -> class -> probability, of --json; without what could not be read."""
    lines = map(json.loads, outcome.out.splitlines())
    return {
        line["file"]: {entry["name"]: entry["probability"] for entry in line["classes"]}
        for line in lines
        if "classes" in line
    }


def test_nothing_but_predictions_is_on_stdout(convoy, photographs_run):
    run = f"--run_dir={photographs_run / 'run'}"
    outcome = convoy("predict", run, "--json", photographs_run / "new", cwd=photographs_run)
    assert outcome.code == 0, outcome
    first = predictions(outcome)
    assert len(outcome.out.splitlines()) == 7
    assert {max(found, key=found.get) for file, found in first.items() if "/dog/" in file} == {"dog"}
    assert outcome.err.count("\n") == 1
    assert "1 of the 7 files could not be read" in outcome.err
    assert "notes\\x1b[2J.png" in outcome.err
    # The other engine, and another way to name the files.
    outcome = convoy("predict", run, "--json", "--backend=jax", "new/*/0*", cwd=photographs_run)
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    other = {f"{photographs_run}/{file}": found for file, found in predictions(outcome).items()}
    assert other.keys() == first.keys()
    for file, found in first.items():
        assert other[file] == pytest.approx(found, abs=1e-5)
    outcome = convoy("predict", run, photographs_run / "new", cwd=photographs_run)
    assert "notes\\x1b[2J.png" in outcome.out
    assert "\x1b" not in outcome.out


def test_without_a_readable_file_it_ends_with_65(convoy, photographs_run):
    outcome = convoy("predict", f"--run_dir={photographs_run / 'run'}", "--csv", "absent.png")
    assert outcome.code == 65, outcome
    assert outcome.out.splitlines()[1] == "absent.png,cannot be read: no such file or directory,,,,"
    assert outcome.err == "convoy: absent.png cannot be read: no such file or directory.\n"


def test_a_run_of_a_grey_data_set_predicts_colour_and_ctrl_c_ends_it(convoy, tmp_path):
    assert convoy("train", *QUICK, "--run_dir=run", "--duration=20st", "--image_size=16").code == 0
    write_images(tmp_path / "new", ("cat",), each=4)
    (tmp_path / "many").write_text(f"{tmp_path / 'new'}\n" * 100_000)
    argv = command("predict", "--run_dir=run", "--json", "--list=many", "--top=1")
    process = subprocess.Popen(argv, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert json.loads(process.stdout.readline())["file"] == str(tmp_path / "new" / "cat" / "000.jpg")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    *lines, _ = process.stdout.read().split("\n")
    assert process.wait() == 130
    assert time.monotonic() - began < 20
    assert all(json.loads(line)["classes"] for line in lines)
