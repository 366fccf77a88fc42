"""--balance, --order and --eval_split, parsed once; what --group and --test_split may be. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import re

from convoy import exits
from convoy.options import impossible, shortened
from convoy.table import Entry, Table

_FRACTION = re.compile(r"0?\.[0-9]{1,20}")
MAX_BLOCK = 1 << 20  # examples
_BLOCK = re.compile(r"[1-9][0-9]{0,6}")
_BETA = re.compile(r"0?\.(?=0*[1-9])[0-9]{1,12}")


@dataclasses.dataclass(frozen=True)
class Balance(Entry):
    """A row. Its target is a function of (examples per class, beta) that returns the draws per class of an epoch."""


BALANCES: Table[Balance] = Table(
    "balance",
    {
        "none": Balance("convoy.data.balance:unbalanced", "every example once"),
        "oversample": Balance("convoy.data.balance:oversampled", "all classes equally often"),
        "sqrt": Balance("convoy.data.balance:square_root", "in proportion to the root of their examples"),
        "undersample": Balance(
            "convoy.data.balance:undersampled",
            "as often as the smallest class has examples, which makes an epoch shorter",
        ),
        "effective": Balance(
            "convoy.data.balance:effective",
            "in proportion to examples / effective number of them",
            source="Cui et al. 2019",
            argument="BETA",
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class BalanceSpec:
    """--balance, parsed."""

    name: str = "none"  # of a row of BALANCES
    beta: float = 0.0  # of effective, between 0 and 1; 0 for the others

    @classmethod
    def parse(cls, text: str) -> BalanceSpec:
        name, colon, beta = text.partition(":")
        row = BALANCES.get(name)
        if row and row.argument and _BETA.fullmatch(beta):
            return cls(name, float(beta))
        if row and not row.argument and not colon:
            return cls(name)
        raise exits.CannotRun(
            f"--balance={shortened(text)} is not possible; give none, oversample, sqrt, undersample, or"
            " effective:BETA with BETA between 0 and 1, for example effective:0.999."
        )


@dataclasses.dataclass(frozen=True)
class OrderSpec:
    """--order, parsed."""

    block: int = 0  # examples of a block; 0 for the full shuffle

    @classmethod
    def parse(cls, text: str) -> OrderSpec:
        name, _, block = text.partition(":")
        if text == "full":
            return cls()
        if name == "blocked" and _BLOCK.fullmatch(block) and int(block) <= MAX_BLOCK:
            return cls(int(block))
        remedy = f"give full, or blocked:N with N from 1 to {MAX_BLOCK:,} examples, for example blocked:64"
        raise impossible("order", text, remedy)


@dataclasses.dataclass(frozen=True)
class EvalSplitSpec:
    """--eval_split, parsed: auto, none, the name of a split, or a fraction of train."""

    name: str  # "hash" or "stratified" for a fraction
    fraction: float = 0.0  # above 0 for these

    @classmethod
    def parse(cls, text: str) -> EvalSplitSpec:
        if text in ("", "train"):
            raise exits.CannotRun(
                f"--eval_split={text} would choose the best checkpoint on the examples it learned from; give"
                " another split, hash:0.1 or none."
            )
        name, _, fraction = text.partition(":")
        if name not in ("hash", "stratified"):
            return cls(text)
        if not _FRACTION.fullmatch(fraction) or not float(fraction):
            raise exits.CannotRun(
                f"--eval_split={shortened(text)} is not {name}:FRACTION with a fraction between 0 and 1, for example"
                f" {name}:0.1."
            )
        return cls(name, float(fraction))


def check_test_split(text: str) -> None:
    """CannotRun for a --test_split that no run can have."""
    if text in ("", "train"):
        raise impossible("test_split", text, "give another split than the one that is learned from, auto or none")


def check_group(pattern: str) -> None:
    """CannotRun for a --group that is no expression, or has no (...). RE2, which searches with it, may know less."""
    if not pattern:
        return
    try:
        count = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise impossible("group", pattern, f"it is no regular expression, {error}") from error
    if not count:
        raise impossible("group", pattern, "put what names the group into (...), for example (patient[0-9]+)")
