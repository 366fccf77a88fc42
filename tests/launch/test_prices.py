"""`convoy launch accelerators | cost`: a table that fits the screen, and dollars that add up or are unknown."""

from __future__ import annotations

import json

import pytest

from convoy import accelerators as table
from convoy import exits
from convoy.launch.command_line import from_argv
from convoy.launch.prices import accelerators, cost, job_cost


def test_the_table_fits_and_names_every_machine_type(capsys):
    assert accelerators([]) == exits.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = lines[: lines.index("")]
    assert {accelerator.machine_type for accelerator in table.all_of()} - {""} <= {row.split()[1] for row in rows}
    # Aligned: every row ends where the head does.
    assert {len(row) for row in rows} == {len(rows[0])}
    (h200,) = (row for row in rows if row.startswith("h200x8"))
    assert h200.split() == ["h200x8", "a3-ultragpu-8g", "224/2952", "141", *["unknown"] * 4]
    assert "2026-08, us-central1" in "\n".join(lines)


def asked(capsys, *argv):
    assert cost(list(argv)) == exits.OK
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--accelerator=l4x4", "--workers=4"], "4 x g2-standard-48 (l4x4): $16.92 an hour, $406.08 a day"),
        (["--accelerator=l4x4", "--workers=4", "--spot"], "$5.08 an hour"),
        (["--accelerator=v5e-16"], "4 x ct5lp-hightpu-4t (v5e-16): $19.20 an hour"),
        (["--accelerator=v5litepod-8@4t"], "2 x ct5lp-hightpu-4t (v5e-8): $9.60 an hour"),
        (["--accelerator=h200x8", "--workers=2", "--price_per_hour=80"], "$160.00 an hour"),
    ],
)
def test_an_hour_costs_workers_times_machine(capsys, argv, words):
    said = asked(capsys, *argv)
    assert words in said
    assert "without disks and egress" in said
    assert ("--price_per_hour" if "--price_per_hour=80" in argv else "price of 2026-") in said
    assert "an epoch: unknown; give --images_per_second" in said


@pytest.mark.parametrize("accelerator", ["h200x8", "cpu", "t4x1", "v7x-8"])
def test_an_unknown_price_is_unknown_and_says_how_to_give_one(capsys, accelerator):
    said = asked(capsys, f"--accelerator={accelerator}", "--images_per_second=5", "--images_per_epoch=5")
    assert "unknown what an hour costs; give --price_per_hour" in said
    assert "an epoch of 5 images at 5 a second: 1 s, unknown" in said
    assert "$" not in said


def test_a_job_has_at_most_its_hours():
    argv = ["--name=a", "--accelerator=l4x4", "--workers=2", "--hours=10", "--", "--run_dir=r"]
    assert "$8.46 an hour" in job_cost(from_argv(argv))
    assert "at most $84.60 an attempt, which --hours=10 bounds" in job_cost(from_argv(argv))
    assert "an epoch: unknown; `convoy launch cost`" in job_cost(from_argv(argv))
    assert "unknown what an hour costs" in job_cost(from_argv(["--name=a", "--", "--run_dir=r"]))


def test_an_epoch_costs_its_time(capsys):
    speed = ["--images_per_second=1000", "--images_per_epoch=1800000"]
    said = asked(capsys, "--accelerator=h100x1", "--workers=2", *speed, "--", "--duration=90ep", "--dataset=cifar10")
    assert "an epoch of 1,800,000 images at 1,000 a second: 30 min, $10.62" in said
    assert "90 epochs: 45 h, $955.80\nstart-up, evaluations, saving and restarts come on top\n" in said
    assert "epochs:" not in asked(capsys, "--accelerator=h100x1", *speed, "--", "--duration=500st")
    assert "\n30 minutes: 30 min, $" in asked(capsys, "--accelerator=h100x1", *speed, "--", "--duration=30min")


def test_the_speed_comes_from_a_finished_run(capsys, tmp_path):
    result = {
        **{"step": 24, "examples": 3000, "epoch": 2.0, "wall_seconds": 30.5, "train": {"images_per_second": 100.0}},
        "eval": {"split": "test", "examples": 300, "accuracy": 0.5, "loss": 1.0},
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert "an epoch of 1,500 images at 100 a second: 15 s, less than $0.01" in asked(
        capsys, "--accelerator=l4x1", f"--run_dir={tmp_path}"
    )
    result["train"]["images_per_second"] = None
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(exits.CannotRun, match="tells no speed"):
        cost(["--accelerator=l4x1", f"--run_dir={tmp_path}"])
    for text in ("", "[]", "{}"):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(exits.BadData, match=r"result\.json (does not read as JSON|has)"):
            cost(["--accelerator=l4x1", f"--run_dir={tmp_path}"])
    with pytest.raises(exits.CannotRun, match=r"has no result\.json"):
        cost(["--accelerator=l4x1", f"--run_dir={tmp_path}/none"])


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["--acelerator=l4x1"], exits.UsageError, "did you mean --accelerator"),
        (["--accelerator=l4x1", "--", "--duraton=1ep"], exits.UsageError, "did you mean --duration"),
        (["--images_per_second=-1"], exits.CannotRun, "--images_per_second=-1.0 is not possible"),
        (["--images_per_second=nan"], exits.CannotRun, "--images_per_second=nan is not possible"),
        (["--price_per_hour=nan"], exits.CannotRun, "--price_per_hour=nan is not possible"),
        (["--price_per_hour=inf"], exits.CannotRun, "--price_per_hour=inf is not possible"),
        (["--hours=0"], exits.CannotRun, "--hours=0.0 is not possible"),
        (["--accelerator=v5e-16", "--workers=3"], exits.CannotRun, "v5e-16 has 4 machines"),
    ],
)
def test_impossible_values_are_sentences(argv, error, words):
    with pytest.raises(error, match=words):
        cost(argv)
