"""A run that stops early, in processes: killed on its way it ends at the same step with the same bits."""

from __future__ import annotations

import pytest

from support import assert_same_bits, events_of, records_of, result_of

# Its learning rate is far too high: what a step finds is hardly ever better than what was found before.
FLAGS = ["--dataset=digits", "--batch_size=64", "--duration=200st", "--checkpoint_every=15st", "--eval_every=10st",
         "--augment=article", "--seed=3", "--deterministic", "--learning_rate=0.05", "--patience=3", "--noreport"]  # fmt: skip


@pytest.mark.thorough
def test_a_killed_run_stops_at_the_same_step_with_the_same_bits(convoy, tmp_path):
    once, killed = tmp_path / "once", tmp_path / "killed"
    outcome = convoy("train", *FLAGS, f"--run_dir={once}")
    assert outcome.code == 0, outcome
    result = result_of(once)
    stopped = result["stopped_early"]
    assert (stopped["because"], stopped["evaluations_since_best"]) == ("patience", 3)
    assert stopped["step"] == result["step"] == result["best"]["step"] + 30 < 200
    assert result["eval_best"]["step"] == result["best"]["step"]
    assert f"Stopped early, at step {result['step']} of 200: 3 evaluations in a row (--patience=3)" in outcome.out
    assert f"with the weights of step {result['best']['step']}, the best." in outcome.out

    # Before any checkpoint, between two evaluations without a better one, and when all is done but result.json.
    for kill in ("kill:step@5", f"kill:between@{result['step'] - 10}", "kill:end@0"):
        assert convoy("train", *FLAGS, f"--run_dir={killed}", chaos=kill).code == 42
    assert convoy("train", *FLAGS, f"--run_dir={killed}").code == 0
    assert_same_bits(killed, once)
    assert records_of(killed) == records_of(once)
    for part in ("eval", "eval_best", "best"):
        assert result_of(killed)[part] == result[part]

    again = convoy("train", *FLAGS, f"--run_dir={once}")
    assert again.code == 0, again
    assert "is finished: it stopped early, and a higher --patience or a longer --duration continues it." in again.out
    assert convoy("train", *FLAGS, "--patience=4", f"--run_dir={once}").code == 0
    assert result_of(once)["step"] > result["step"]


@pytest.mark.thorough
def test_minutes_are_counted_over_attempts_and_more_of_them_go_on(convoy, tmp_path):
    flags = [*FLAGS, "--patience=0", "--duration=100000st", f"--run_dir={tmp_path / 'run'}"]
    outcome = convoy("train", *flags, "--max_minutes=0.05")
    assert outcome.code == 0, outcome
    first = result_of(tmp_path / "run")
    assert first["stopped_early"]["because"] == "max_minutes"
    assert first["stopped_early"]["minutes"] >= 0.05
    assert records_of(tmp_path / "run")[-1]["step"] == first["step"], "it was evaluated where it ended"
    assert convoy("train", *flags, "--max_minutes=0.05").code == 0
    assert [event["event"] for event in events_of(tmp_path / "run")].count("start") == 1, "nothing was left to do"
    assert convoy("train", *flags, "--max_minutes=0.1").code == 0
    assert result_of(tmp_path / "run")["step"] > first["step"]
