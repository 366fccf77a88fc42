"""Keyed permutations of any number of things, computed a place at a time: for domains too small for RandomIndexShuffle.

TensorFlow's operation walks through 2**16 places at least, so that a permutation of 128 things costs 500 steps a place. Here
a Feistel network permutes the square that is the smallest to hold the domain (Black and Rogaway 2002, their third method),
and a place outside the domain is permuted again: in the mean fewer than twice, but for a handful of things.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(words: np.ndarray) -> np.ndarray:
    """uint64 words, each to another, as SplitMix64 ends (Steele, Lea and Flood 2014): a bijection that spreads every bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def permuted(places: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Where each place goes, int64 [n]: for one size and key a bijection of [0, size).

    Args:
      places: int64 [n], each in [0, size).
      sizes: int64 [n], from 1 to 2**50.
      keys: uint64 [n]; other keys permute in another way.
    """
    sides = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    bounds, gone = sizes.astype(np.uint64), places.astype(np.uint64)
    outside = np.arange(len(places))
    while len(outside):
        side, key = sides[outside], keys[outside]
        high, low = gone[outside] // side, gone[outside] % side
        for _ in range(ROUNDS):
            key = key + _GOLDEN
            high, low = low, (high + mixed(key + low) % side) % side
        gone[outside] = high * side + low
        outside = outside[gone[outside] >= bounds[outside]]
    return gone.astype(np.int64)
