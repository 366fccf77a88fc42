"""`convoy evaluate` with all that it measures besides, as a person asks for it."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from convoy import exits
from convoy.cli import dispatch
from support import result_of


def test_all_is_measured_in_one_go(convoy, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    flags = ["--top_k=3", "--calibration", "--tta=flip", "--corruptions=contrast", "--ood=synthetic:8x8x1:10:100"]
    done = convoy("evaluate", "--run_dir=run", *flags, "--output=measured.json")
    assert done.code == 0, done
    measured, then = json.loads((tmp_path / "measured.json").read_text()), result_of(tmp_path / "run")["eval"]
    assert measured["accuracy"] == then["accuracy"]
    assert measured["intervals"]["accuracy"][0] < then["accuracy"] < measured["intervals"]["accuracy"][1]
    assert measured["intervals"]["loss"][0] < then["loss"] < measured["intervals"]["loss"][1]
    assert measured["per_class"] == then["per_class"]
    for name, (low, high) in measured["intervals"]["recall"].items():
        assert low <= then["per_class"][name]["recall"] <= high
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        own = np.take_along_axis(arrays["logits"], arrays["label"][:, None], axis=1)
        top = ((arrays["logits"] > own).sum(axis=1) < 3).mean()
    assert measured["top_k"]["accuracy"] == pytest.approx(top, abs=1e-12)
    assert measured["calibration"]["before"]["loss"] == pytest.approx(then["loss"], rel=1e-6)
    assert measured["calibration"]["after"]["ece"] < measured["calibration"]["before"]["ece"]
    assert measured["tta"]["views"] == 2
    assert len(measured["corruptions"]["accuracy"]["contrast"]) == 5
    assert measured["corruptions"]["clean_accuracy"] == then["accuracy"]
    assert {*measured["ood"]["scores"]} == {"probability", "logit", "energy"}
    for words in (
        "95% interval",
        "among the 3 most probable",
        "with the temperature",
        "views (flip)",
        "contrast",
        "AUROC",
    ):
        assert words in done.out


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [("--corruptions=fgo", "did you mean fog?"), ("--tta=flop", "--tta=flop"), ("--top_k=-1", "--top_k=-1")],
)
def test_what_cannot_be_measured_is_refused_at_once(flag, sentence):
    with pytest.raises(exits.ConvoyError, match=re.escape(sentence)):
        dispatch(["evaluate", "--run_dir=run", flag])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--top_k=10"], "--top_k=10 is right by itself: the run has 10 classes"),
        (["--calibration", "--split=eval"], "measure another split than eval"),
        (["--ood=synthetic:9x9x3:2:50"], "has images of 9x9x3, and the run takes 8x8x1"),
    ],
)
def test_what_the_run_has_not_is_a_sentence(convoy, undisturbed, tmp_path, flags, sentence):
    done = convoy("evaluate", f"--run_dir={undisturbed}", *flags)
    assert done.code == 78, done
    assert sentence in done.err
