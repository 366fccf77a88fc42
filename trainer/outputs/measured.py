"""What a person is told beside a measurement: which examples it was made on. Imports nothing heavy."""

from __future__ import annotations


def called(split: str) -> str:
    """A split as a sentence names it: examples that a fraction took from the training split have no name of their own."""
    return "held-out" if split == "eval" or ":" in split else split


def chose(split: str, eval_split: str) -> bool:
    """Whether the examples that were measured, `split`, chose the best checkpoint, by --eval_split."""
    validation = eval_split == "auto" and split == "validation"
    return split in ("eval", eval_split) or ":" in split or validation


def note(split: str, chose: bool) -> str:
    """What to know of an accuracy; "" for examples that nothing was decided on.

    Args:
      split: what was measured.
      chose: whether its examples chose the best checkpoint.
    """
    if split == "train":
        return "the model was trained on these examples; how well it knows new ones was not measured."
    if chose:
        return "these examples chose the best checkpoint, so expect a little less of new ones; a test split would tell."
    return ""
