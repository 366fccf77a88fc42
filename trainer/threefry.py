"""Threefry-2x32: random words as a function of a key and a counter, the same bits on both engines and on any device."""

from __future__ import annotations

from typing import Any

from keras import ops

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_ROUNDS = 13  # the fewest that pass every test of TestU01 (Salmon et al. 2011, table 2)
_PARITY = 0x1BD11BDA


def threefry(key_words: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 with 13 rounds (Salmon et al. 2011, section 3.2) of uint32 tensors that broadcast: two words each."""
    keys = (*key_words, ops.bitwise_xor(ops.bitwise_xor(*key_words), word(_PARITY)))
    # By `+`: keras.ops.add of [1, n] and [n, 1] takes the second for a bias on TensorFlow (Keras 3.15.1).
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(_ROUNDS):
        turn = _ROTATIONS[number % 8]
        x = x + y
        y = ops.bitwise_or(ops.left_shift(y, word(turn)), ops.right_shift(y, word(32 - turn)))
        y = ops.bitwise_xor(y, x)
        if number % 4 == 3:
            injection = number // 4 + 1
            x = x + keys[injection % 3]
            y = y + keys[(injection + 1) % 3] + word(injection)
    return x, y


def word(number: int) -> Any:
    """A scalar uint32."""
    return ops.convert_to_tensor(number, dtype="uint32")
