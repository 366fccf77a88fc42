"""A loss of NaN in the first step: no learning rate is to blame, and mixed_float16 may be."""

from __future__ import annotations

import pytest

from convoy import exits
from fake_run import BATCH, FakeEngine, Run


@pytest.mark.parametrize("flags", [{}, {"on_nan": "rollback"}, {"on_nan": "skip"}], ids=str)
@pytest.mark.parametrize(
    ("precision", "words"),
    [("mixed_float16", "--precision=mixed_float16.*give mixed_bfloat16 or float32"), ("float32", "look at the images")],
)
def test_the_first_step_names_what_may_be_the_cause(tmp_path, flags, precision, words):
    engine = FakeEngine(nan_at=range(20 * BATCH), skips=bool(flags) and flags["on_nan"] == "skip")
    with pytest.raises(exits.Diverged, match=f"No weight had changed yet: .*{words}") as raised:
        Run(tmp_path).attempt(engine, precision=precision, **flags)
    assert "--learning_rate" not in str(raised.value)


@pytest.mark.parametrize("flags", [{"nan_at": [3 * BATCH]}, {"overflows_at": 1}], ids=str)
def test_later_the_learning_rate_is_the_first_suspect(tmp_path, flags):
    with pytest.raises(exits.Diverged, match="Lower --learning_rate") as raised:
        Run(tmp_path).attempt(FakeEngine(**flags), precision="mixed_float16", checkpoint_every="1st")
    assert "No weight had changed" not in str(raised.value)
