"""Schedules against NumPy, against recorded rates of timm and optax, and what no run can have."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.schedules.names import SCHEDULES
from convoy.trainer.schedules.schedule import build_schedule

EXAMPLES = 1000  # 10 steps an epoch of batch 100, 100 steps in 10 epochs
RECORDED = json.loads((Path(__file__).parent / "golden" / "schedules.json").read_text())


def rates(**values) -> np.ndarray:
    schedule = build_schedule(RunConfig(batch_size=100, learning_rate=0.5, **values), EXAMPLES)
    if schedule.kind == "step":  # which takes a step at a time
        return np.array([float(schedule(step)) for step in range(101)])
    return np.array(schedule(np.arange(101)))


# Of the fraction of the steps after warm-up, but for the last three, where it is of all steps, without warm-up.
FORMULAS = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "polynomial:3": lambda t: (1 - t) ** 3,
    "polynomial": lambda t: (1 - t) ** 2,
    "polynomial:2,0.1": lambda t: 0.2 + 0.8 * (1 - t) ** 2,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "rising:0.01": lambda t: 0.01 ** (1 - t),
    "step": lambda t: 1.0 if t < 1 / 3 else 0.1 if t < 2 / 3 else 0.01,
    "trapezoid:0.3": lambda t: min(1, (1 - t) / 0.3),
    "wsd:0.3": lambda t: 1 - math.sqrt(max(0, (t - 0.7) / 0.3)),
}
OF_THE_RUN = ["step", "trapezoid:0.3", "wsd:0.3"]


def test_every_schedule_has_a_formula_here():
    assert {schedule.partition(":")[0] for schedule in FORMULAS} == set(SCHEDULES)


def test_a_schedule_is_asked_by_position():
    schedule = build_schedule(RunConfig(batch_size=100, learning_rate=0.5, schedule="linear"), EXAMPLES)
    assert [schedule.at(position) for position in (0, 99, 100, 4321)] == [
        float(schedule(step)) for step in (0, 0, 1, 43)
    ]


@pytest.mark.parametrize("schedule", [schedule for schedule in FORMULAS if schedule not in OF_THE_RUN])
@pytest.mark.parametrize("warmup", ["0st", "2ep"])
def test_schedules_are_the_formulas(schedule, warmup):
    after = FORMULAS[schedule]
    warm = 20 if warmup == "2ep" else 0
    expected = [0.5 * ((s + 1) / (warm + 1) if s < warm else after((s - warm) / (100 - warm))) for s in range(101)]
    assert rates(schedule=schedule, warmup=warmup) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("schedule", OF_THE_RUN)
def test_schedules_of_the_whole_run_are_the_formulas(schedule):
    # Near its end the square root of float32's rounding is 1e-4 of the peak.
    within = 1e-4 if schedule.startswith("wsd") else 1e-6
    expected = [0.5 * FORMULAS[schedule](step / 100) for step in range(101)]
    assert rates(schedule=schedule) == pytest.approx(expected, abs=within)


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("schedule", RECORDED["0"])
def test_rates_are_those_of_other_implementations(schedule, warmup):
    """golden/schedules.json; schedule_references.py made it."""
    keras.config.set_floatx("float64")
    got = rates(schedule=schedule, warmup=f"{warmup}st")[warmup:100]
    within = 1e-7 if schedule.startswith("polynomial") else 1e-12  # optax computes in float32
    np.testing.assert_allclose(got, RECORDED[str(warmup)][schedule], rtol=0, atol=within)


def test_a_cooldown_has_its_values_at_exact_steps():
    for schedule, middle in (("trapezoid:0.2", 0.25), ("wsd:0.2", 0.5 * (1 - math.sqrt(0.5)))):
        got = rates(schedule=schedule, warmup="10st")
        assert got[9] == pytest.approx(0.5 * 10 / 11)
        assert got[10:81] == pytest.approx(0.5)
        assert got[[90, 100]] == pytest.approx([middle, 0], abs=1e-6)
        assert (np.diff(got[80:]) < 0).all()


def test_a_longer_run_that_has_not_cooled_yet_is_the_same_run():
    short, long = rates(schedule="wsd:0.2"), rates(schedule="wsd:0.2", duration="20ep")
    np.testing.assert_array_equal(short[:81], long[:81])


def test_the_last_rate_of_a_polynomial_is_a_rate():
    """Not a fraction of the peak."""
    assert rates(schedule="polynomial:2,0.001")[100] == pytest.approx(0.001)


def test_a_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(exits.CannotRun, match="--warmup=10ep is as long as the run"):
        rates(warmup="10ep")


@pytest.mark.parametrize("schedule", ["wsd:0.2", "trapezoid:0.2"])
def test_a_warmup_that_reaches_into_the_cooldown_is_refused(schedule):
    with pytest.raises(
        exits.CannotRun, match=f"--warmup=81st ends at step 81 and the cooldown of --schedule={schedule} .* step 80;"
    ):
        rates(warmup="81st", schedule=schedule)
    assert rates(warmup="80st", schedule=schedule).max() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("wsd:0", "part of the run in which the rate falls"),
        ("wsd:1.5", "for example wsd:0.1"),
        ("wsd:0.1,0.2", "for example wsd:0.1"),
        ("trapezoid:nan", "for example trapezoid:0.2"),
        ("polynomial:2,-1", "for example polynomial:2 or polynomial:2,1e-4"),
        ("polynomial:2,1e-4,3", "for example polynomial:2 or"),
        ("polynomial:2,0.6", "it would rise from the peak, 0.5, to 0.6; give a lower END"),
        ("rising:1", "for example rising:1e-6"),
        ("rising:0", "for example rising:1e-6"),
        ("sdw", "did you mean wsd?"),
    ],
)
def test_an_impossible_schedule_is_refused_with_what_to_give(schedule, words):
    with pytest.raises(exits.CannotRun, match=f"--schedule={schedule} is not possible") as error:
        RunConfig(learning_rate=0.5, schedule=schedule)
    assert words in str(error.value)


def test_steps_alone_fall_at_thirds():
    after = FORMULAS["step"]
    assert rates(schedule="step") == pytest.approx([0.5 * after(step / 100) for step in range(101)])


def test_steps_fall_at_their_fractions_of_the_run():
    got = rates(schedule="step:0.3,0.6", warmup="1ep")
    assert got[10:30] == pytest.approx(0.5)
    assert got[30:60] == pytest.approx(0.05)
    assert got[60:] == pytest.approx(0.005)
