"""--lookahead and --clip_agc as flags: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.trainer.config import RunConfig

pytestmark = pytest.mark.slow  # Keras, and networks of its own


@pytest.mark.parametrize(
    ("text", "interval", "alpha"), [("0", 0, 0.5), ("5", 5, 0.5), ("6:0.8", 6, 0.8), ("1:1", 1, 1.0)]
)
def test_lookahead_is_steps_and_an_alpha(text, interval, alpha):
    spec = RunConfig(lookahead=text).lookahead_spec
    assert (spec.interval, spec.alpha, str(spec)) == (interval, alpha, text)


@pytest.mark.parametrize(
    "text", ["", "-1", "05", "5:", "5:0", "5:1.5", "5:nan", "5:0.5:1", "1234567", "5:x", "\u0665", "0:0.5"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(exits.CannotRun, match="--lookahead=.* is not possible: give 0, STEPS or STEPS:ALPHA"):
        RunConfig(lookahead=text)


def test_two_averages_are_refused():
    RunConfig(optimizer="schedule_free_adamw", ema=0.9)
    with pytest.raises(
        exits.CannotRun, match="--lookahead=5 is not possible: --optimizer=schedule_free_adamw evaluates"
    ):
        RunConfig(optimizer="schedule_free_adamw", lookahead="5")


def test_two_ways_to_clip_are_refused():
    with pytest.raises(exits.CannotRun, match="--clip_agc=0.01 is not possible: --clip_norm=1 clips too"):
        RunConfig(clip_norm=1.0, clip_agc=0.01)
