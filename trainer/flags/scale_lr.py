"""--scale_lr: rules for the learning rate of a batch, and for what was published with it. Imports nothing heavy.

linear:BASE and sqrt:BASE stand in a run's flags and multiply its rate. The other rules become plain values of the flags that
they set when a run begins, so that its config.flags needs no rule.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import re
from typing import NamedTuple

from convoy import options
from convoy.table import Entry, Table, joined

_BASE = re.compile(r"[1-9][0-9]{0,11}")


class Scaled(NamedTuple):
    """What a rule says for a batch.

    Attributes:
      rate: the peak learning rate.
      warmup: as --warmup has it; "" where the rule says nothing of it.
      beta_2: as --beta_2; None where the rule says nothing of it.
      why: how the rule came to this, for a person.
    """

    rate: float
    warmup: str = ""
    beta_2: float | None = None
    why: str = ""


class Batch(NamedTuple):
    """What a rule is asked about.

    Attributes:
      size: examples of a step.
      base: the batch size that the flag names, 0 for none.
      rate: --learning_rate, or the optimizer's own.
      beta_2: --beta_2.
    """

    size: int
    base: int
    rate: float
    beta_2: float

    @property
    def ratio(self) -> float:
        return self.size / self.base


class Point(NamedTuple):
    """A published run of ResNet-50 on ImageNet with LARS to 75.9 %."""

    size: int  # examples of a step
    rate: float
    warmup: int  # epochs
    momentum: float
    weight_decay: float


# MLPerf Training 4.0's reference convergence points, which go back to rounds 1.0 to 2.0: rcps_resnet.json of
# https://github.com/mlcommons/logging/blob/master/mlperf_logging/rcp_checker/training_4.0.0/rcps_resnet.json
LARS_POINTS = (
    Point(1_632, 7.4, 2, 0.9, 5e-5),
    Point(3_264, 10.5, 2, 0.9, 5e-5),
    Point(4_096, 10.0, 5, 0.9, 2e-4),
    Point(8_192, 17.0, 5, 0.9, 2e-4),
    Point(13_056, 12.8, 9, 0.9, 2.5e-5),
    Point(32_768, 21.2, 16, 0.94, 2.5e-5),
    Point(49_152, 19.405, 24, 0.951807, 1e-4),
    Point(58_880, 23.246, 29, 0.951807, 1e-4),
    Point(65_536, 24.699, 31, 0.951807, 1e-4),
    Point(67_840, 24.699, 31, 0.951807, 1e-4),
)


def none(batch: Batch) -> Scaled:
    return Scaled(batch.rate)


def linear(batch: Batch) -> Scaled:
    return Scaled(batch.rate * batch.ratio)


def sqrt(batch: Batch) -> Scaled:
    return Scaled(batch.rate * math.sqrt(batch.ratio))


def goyal(batch: Batch) -> Scaled:
    """rate * size / 256, and 5 epochs of warm-up (Goyal et al. 2017, sections 2.1 and 2.2)."""
    rate = batch.rate * (batch.size / 256)
    return Scaled(rate, "5ep", why=f"{batch.rate:g} * {batch.size:,} / 256 = {rate:g}")


def lars(batch: Batch) -> Scaled:
    """The rate and the warm-up of the published point of this batch size; between two, on the line of their logarithms.

    Raises:
      exits.CannotRun: the batch is smaller, or larger, than every published one.
    """
    sizes = [point.size for point in LARS_POINTS]
    if not sizes[0] <= batch.size <= sizes[-1]:
        remedy = f"it is published for batches of {sizes[0]:,} to {sizes[-1]:,}; give a --learning_rate instead"
        raise options.impossible("scale_lr", f"lars with --batch_size={batch.size}", remedy)
    above = LARS_POINTS[bisect.bisect_left(sizes, batch.size)]
    if above.size == batch.size:
        return Scaled(above.rate, f"{above.warmup}ep", why=f"published {_described(above)}")
    below = LARS_POINTS[LARS_POINTS.index(above) - 1]
    part = math.log(batch.size / below.size) / math.log(above.size / below.size)
    rate = float(f"{below.rate * (above.rate / below.rate) ** part:.4g}")
    warmup = _epochs(round(below.warmup + part * (above.warmup - below.warmup), 2))
    return Scaled(
        rate, warmup, why=f"not published: {rate:g} is between the points {_described(below)} and {_described(above)}"
    )


def lamb(batch: Batch) -> Scaled:
    """0.04 at a batch of 32,768, by the root of the ratio, and 20 epochs of warm-up, by the ratio itself.

    You et al. 2020 (https://arxiv.org/abs/1904.00962) give the rule, the first author's program for ResNet-50 on ImageNet the
    point: 90 epochs, run.sh of https://github.com/fastalgo/imagenet_resnet50_lamb.
    """
    ratio = batch.size / 32_768
    rate = 0.04 * math.sqrt(ratio)
    return Scaled(rate, _epochs(20 * ratio), why=f"0.04 * sqrt({batch.size:,} / 32,768) = {rate:.6g}")


def adam(batch: Batch) -> Scaled:
    """The root of the ratio, with the half-life of the squared gradients' average kept in examples: beta_2**ratio.

    The rate: Malladi et al. 2022 (arXiv:2205.10287). beta_2: Marek et al. 2025 (arXiv:2507.07101), who leave beta_1 alone.
    """
    rate, beta_2 = batch.rate * math.sqrt(batch.ratio), batch.beta_2**batch.ratio
    ratio = f"{batch.size:,} / {batch.base:,}"
    why = f"{batch.rate:g} * sqrt({ratio}) = {rate:.6g}, {batch.beta_2:g}**({ratio}) = {beta_2:.6g}"
    return Scaled(rate, beta_2=beta_2, why=why)


@dataclasses.dataclass(frozen=True)
class RuleEntry(Entry):
    """A row. Its target takes a Batch and returns what is Scaled to it.

    Args:
      optimizers: those that it is for; none: all.
      names_rate: whether it knows the rate itself, and takes none.
      settles: whether plain values take its place when a run begins.
    """

    optimizers: tuple[str, ...] = ()
    names_rate: bool = False
    settles: bool = True


_HERE = "convoy.trainer.flags.scale_lr"
RULES: Table[RuleEntry] = Table(
    "rule",
    {
        "none": RuleEntry(f"{_HERE}:none", "leaves the learning rate as it is", settles=False),
        "linear": RuleEntry(
            f"{_HERE}:linear",
            "multiplies it by batch_size / BASE",
            source="Goyal et al. 2017",
            argument="BASE",
            settles=False,
        ),
        "sqrt": RuleEntry(f"{_HERE}:sqrt", "by the root of that", argument="BASE", settles=False),
        "goyal": RuleEntry(
            f"{_HERE}:goyal",
            "multiplies it by batch_size / 256, and warms up for 5 epochs",
            source="Goyal et al. 2017",
            optimizers=("sgd",),
        ),
        "lars": RuleEntry(
            f"{_HERE}:lars",
            "the rate and the warm-up that are published for ResNet-50 with batches of 1,632 to 67,840",
            source="MLPerf Training 4.0, reference convergence points",
            optimizers=("lars",),
            names_rate=True,
        ),
        "lamb": RuleEntry(
            f"{_HERE}:lamb",
            "0.04 * sqrt(batch_size / 32768), and 20 * batch_size / 32768 epochs of warm-up",
            source="You et al. 2020",
            optimizers=("lamb", "keras_lamb"),
            names_rate=True,
        ),
        "adam": RuleEntry(
            f"{_HERE}:adam",
            "multiplies it by the root of batch_size / BASE, and keeps the half-life of --beta_2 in examples",
            source="Malladi et al. 2022, Marek et al. 2025",
            argument="BASE",
            optimizers=("adam", "adamw"),
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class ScaleSpec:
    """--scale_lr, parsed.

    Attributes:
      text: as the flag has it.
      rule: the name of the row.
      base: the batch size that leaves the rate as it is; 0 where the rule takes none.
    """

    text: str
    rule: str
    base: int

    @classmethod
    def parse(cls, text: str) -> ScaleSpec:
        """`text` as --scale_lr has it; CannotRun, a sentence, for a rule that there is not."""
        rule, colon, base = text.partition(":")
        if rule not in RULES:
            raise options.impossible("scale_lr", text, RULES.near(rule))
        if (colon, bool(_BASE.fullmatch(base))) != ((":", True) if RULES[rule].argument else ("", False)):
            syntaxes = joined(map(RULES.syntax, RULES), "or")
            remedy = f"give {syntaxes} with a whole number of up to 12 digits, for example linear:256"
            raise options.impossible("scale_lr", text, remedy)
        return cls(text, rule, int(base or 0))

    def __str__(self) -> str:
        return self.text

    @property
    def row(self) -> RuleEntry:
        return RULES[self.rule]

    def scaled(self, batch_size: int, rate: float, beta_2: float) -> Scaled:
        """What the rule says for a batch.

        Args:
          batch_size: examples of a step.
          rate: --learning_rate, or the optimizer's own.
          beta_2: --beta_2.
        """
        return RULES.load(self.rule)(Batch(batch_size, self.base, rate, beta_2))


def _described(point: Point) -> str:
    return (
        f"at {point.size:,} (rate {point.rate:g}, warm-up {point.warmup}ep, with --momentum={point.momentum:g}"
        f" --weight_decay={point.weight_decay:g})"
    )


def _epochs(number: float) -> str:
    """A number of epochs as a flag has it."""
    return f"{number:.13f}".rstrip("0").rstrip(".") + "ep"
