"""What stands on a page in words: of the result, of how the run was made, and of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.counting import counted
from convoy.outside import printable
from convoy.trainer.config import RunConfig
from convoy.trainer.outputs import advice, alerts, goodput, measured
from convoy.trainer.run_dir.dataset import Description


def of_result(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(name, value), of a finished run."""
    if not result:
        return []
    evaluated, train = result["eval"], result["train"]
    facts = [("loss", f"{evaluated['loss']:.4f}")]
    if "top5_accuracy" in evaluated:
        facts.append(("among the five most probable", f"{evaluated['top5_accuracy']:.2%}"))
    if evaluated.get("mean_recall") is not None:
        facts.append(("mean recall of the classes", f"{evaluated['mean_recall']:.2%}"))
    facts.append(("epochs", f"{result['epoch']:.4g}, {result['step']:,} steps"))
    facts.append(("time", f"{result['wall_seconds']:,.0f} s in {counted(result.get('attempts', 1), 'attempt')}"))
    if train["images_per_second"]:
        facts.append(("images/s in training", f"{train['images_per_second']:,.0f}"))
    if train.get("noise_scale") is not None:
        facts.append(("gradient noise scale", f"{train['noise_scale']:,.0f} examples"))
    return facts


def of_making(result: dict[str, Any] | None, config: RunConfig) -> list[tuple[str, str]]:
    """(name, value): devices, seed, versions."""
    rows = [("backend", config.backend), ("devices", config.devices), ("seed", str(config.seed))]
    if result:
        rows += [(name, str(version)) for name, version in (result.get("versions") or {}).items()]
    return [(name, printable(value)) for name, value in rows]


def of_data(described: Description | None, config: RunConfig) -> str:
    """A sentence about the training examples; empty where an older version described none."""
    if not described or not described.examples_per_class:
        return ""
    total, present = sum(described.examples_per_class), [count for count in described.examples_per_class if count]
    if not present:
        return ""
    sentence = f"{counted(total, 'training example')} of {counted(len(described.class_names), 'class')}"
    fewest, largest = min(present), max(present)
    sentence += f", {fewest:,} to {largest:,} each" if fewest < largest else f", {fewest:,} each"
    if absent := len(described.examples_per_class) - len(present):
        sentence += f"; {counted(absent, 'class')} {'has' if absent == 1 else 'have'} none"
    if config.data.balance != "none":
        sentence += f"; an epoch draws {described.epoch:,} of them, by --balance={config.data.balance}"
    return printable(sentence) + "."


def of_measurement(result: dict[str, Any] | None, config: RunConfig) -> str:
    """The note that a measurement needs."""
    if not result:
        return ""
    split = result["eval"]["split"]
    return measured.note(split, measured.chose(split, config.data.eval_split)).capitalize()


def of_input(seconds: Mapping[str, float], config: RunConfig) -> str:
    """A sentence where steps waited for data; empty where they hardly did. `seconds`: goodput's, by kind."""
    waited, computed = seconds.get("input_wait", 0.0), seconds.get(goodput.COUNTED, 0.0)
    if not waited + computed:
        return ""
    return alerts.as_sentence(advice.input_advice(waited / (waited + computed), config.data))
