"""First weights as a function of (seed, variable's path): the same on every engine and on any devices.

Bits come from Philox-4x64-10, a counter-based generator (Salmon et al. 2011), with a key for each variable. NumPy computes
distributions from them in float64, on the host; a value is rounded once, to the variable's type. patches.first_weights has
Keras draw from here. This file knows nothing of Keras.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from convoy.data.keys import key
from convoy.data.parallel import cores

Shape: TypeAlias = Sequence[int]
Bounds: TypeAlias = "float | np.ndarray"

BLOCK = 1 << 17  # numbers that one counter gives, so that threads can share a large kernel
TRUNCATION = 2.0  # standard deviations, on both engines
UNREPEATABLE = (
    "{model} draws first weights of {path} from a source that --seed does not reach, so that each start has others. Draw them"
    " with keras.random."
)


class Stream:
    """Random numbers under one key: numbers of each block have a counter of their own."""

    def __init__(self, number: int):
        self.number = number

    def generator(self, block: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.number, counter=block << 128))

    def fill(self, shape: Shape, draw: Callable[[np.random.Generator, np.ndarray], object]) -> np.ndarray:
        """float64 of `shape`; `draw` fills a vector of at most BLOCK of its numbers from a generator."""
        numbers = np.empty(math.prod(shape))
        blocks = range(-(-numbers.size // BLOCK))

        def fill_block(block: int) -> None:
            draw(self.generator(block), numbers[block * BLOCK : (block + 1) * BLOCK])

        if len(blocks) > 1:
            with ThreadPoolExecutor(cores()) as threads:
                list(threads.map(fill_block, blocks))
        else:
            list(map(fill_block, blocks))
        return numbers.reshape(tuple(shape))


class Variable:
    """The variable that gets its first value now."""

    def __init__(self, seed: int, path: str):
        self._seed, self._path = seed, path
        self._streams: dict[object, int] = {}

    def stream(self, seed: object) -> Stream:
        """Numbers for a call to keras.random with the argument `seed`.

        Calls with the same integer get the same numbers, as Keras promises; any other call gets new ones. The integer's value
        does not matter: Keras makes one up for an initializer without a seed.
        """
        name = seed if isinstance(seed, int) else object()
        index = self._streams.setdefault(name, len(self._streams))
        return Stream(key(self._seed, "first weights", self._path, index))


_current: contextvars.ContextVar[Variable | None] = contextvars.ContextVar("current", default=None)


def current() -> Variable | None:
    """The variable that gets its first value now, in this thread."""
    return _current.get()


@contextlib.contextmanager
def drawing(variable: Variable) -> Iterator[None]:
    """Within, `variable` gets its first value."""
    before = _current.set(variable)
    try:
        yield
    finally:
        _current.reset(before)


def note(model: str, unrepeatable: Sequence[str]) -> list[str]:
    """What the start-up block has to say about variables whose first values are not a function of (seed, path)."""
    return [UNREPEATABLE.format(model=model, path=", ".join(unrepeatable))] if unrepeatable else []


def normal(stream: Stream, shape: Shape, mean: Bounds = 0.0, stddev: Bounds = 1.0) -> np.ndarray:
    """Normal, by the ziggurat (Marsaglia and Tsang 2000)."""
    return _scaled(stream.fill(shape, lambda generator, out: generator.standard_normal(out=out)), mean, stddev)


def truncated_normal(stream: Stream, shape: Shape, mean: Bounds = 0.0, stddev: Bounds = 1.0) -> np.ndarray:
    """Normal, drawn again where it is further than two deviations from the mean, as TensorFlow defines it."""
    return _scaled(stream.fill(shape, _fill_truncated), mean, stddev)


def uniform(stream: Stream, shape: Shape, minval: Bounds = 0.0, maxval: Bounds = 1.0) -> np.ndarray:
    """Uniform from minval to maxval: 53 bits as a fraction."""
    return _scaled(
        stream.fill(shape, lambda generator, out: generator.random(out=out)), minval, np.subtract(maxval, minval)
    )


def randint(stream: Stream, shape: Shape, minval: int, maxval: int) -> np.ndarray:
    """int64, from minval to maxval - 1, all equally likely (Lemire 2019)."""
    return stream.generator().integers(minval, maxval, tuple(shape))


def orthogonal(stream: Stream, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """A matrix of prod(shape[:-1]) rows whose rows or columns, the fewer of them, are orthogonal and of length `gain`.

    Q of a normal matrix's QR decomposition, its columns signed by the diagonal of R, which makes all orthogonal matrices
    equally likely (Mezzadri 2007, section 5; for weights Saxe et al. 2014).
    """
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(normal(stream, (max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(tuple(shape))


def _fill_truncated(generator: np.random.Generator, out: np.ndarray) -> None:
    generator.standard_normal(out=out)
    outside = np.flatnonzero(np.abs(out) > TRUNCATION)
    while outside.size:
        out[outside] = generator.standard_normal(outside.size)
        outside = outside[np.abs(out[outside]) > TRUNCATION]


def _scaled(numbers: np.ndarray, offset: Bounds, scale: Bounds) -> np.ndarray:
    numbers *= scale
    numbers += offset
    return numbers
