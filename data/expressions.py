"""Regular expressions that a stranger may have written: searched for by RE2, in a time linear in the length of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from convoy.options import impossible
from convoy.outside import printable

_AT_ONCE = 65536  # texts that one call of TensorFlow's reads


def search(flag: str, expression: str, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Where an expression matches within each text.

    Args:
      flag: that it is of, for the sentence; its `pattern`, a whole flag or a part of one, is `expression`.
      expression: as RE2 has it.
      texts: N of them; bytes that are not UTF-8 may stand in them as lone surrogates.

    Returns:
      Whether each matches, bool [N]; and what its first (...) captures, "" where it has none or does not match.

    Raises:
      exits.CannotRun: RE2 does not know the expression.
    """
    whole = rf"\C*?(?:{expression})\C*"  # \C is a byte
    matches, captured = [], list[str]()
    for first in range(0, len(texts), _AT_ONCE):
        try:
            with tf.device("CPU:0"):
                encoded = tf.constant(
                    [text.encode("utf-8", "surrogateescape") for text in texts[first : first + _AT_ONCE]]
                )
                matched = tf.strings.regex_full_match(encoded, whole).numpy()
                parts = tf.strings.regex_replace(encoded, f"^{whole}()$", r"\1", replace_global=False).numpy()
        except tf.errors.InvalidArgumentError as error:
            what = error.message.split("error: ")[-1].split(" [Op:")[0]
            raise impossible(flag, expression, f"RE2 does not take it, {printable(what)}") from error
        matches.append(matched)
        captured += [
            part.decode("utf-8", "surrogateescape") if ok else "" for ok, part in zip(matched, parts, strict=True)
        ]
    return np.concatenate(matches) if matches else np.zeros(0, bool), captured
