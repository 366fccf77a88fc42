"""Exit codes, and the typed errors that carry them.

Kubernetes failure policies, the rehearsal and studies act on these numbers, so they are an interface. A code means the same
thing everywhere, and a class of error has one code.
"""

from __future__ import annotations

OK = 0
BUG = 1
USAGE = 2
TRY_AGAIN = 42
BAD_DATA = 65
DIVERGED = 70
CANNOT_RUN = 78
STOPPED = 130


def worth_restarting(code: int) -> bool:
    """Whether the same command may end differently when it is started again.

    It may after TRY_AGAIN, and after a death by a signal, which shells and containers report as 128 and above. It stays
    ended after STOPPED: a person wanted that.
    """
    return code == TRY_AGAIN or (code >= 128 and code != STOPPED)


class ConvoyError(Exception):
    """An end that a person can act on: its text is one sentence, its `code` the exit code of the process."""

    code = BUG
    _keras_call_info_injected = True  # so that Keras adds no tensors to a sentence that a layer's call raises


class UsageError(ConvoyError):
    """A flag that does not parse."""

    code = USAGE


class TryAgain(ConvoyError):
    """Preempted, a peer lost, the storage away, a hang: the same command will continue."""

    code = TRY_AGAIN


class BadData(ConvoyError):
    """The examples themselves are wrong: a missing folder, an unreadable image, a label out of range."""

    code = BAD_DATA


class Diverged(ConvoyError):
    """The loss or the gradient is no longer a finite number."""

    code = DIVERGED


class CannotRun(ConvoyError):
    """Cannot be run as configured: impossible values, another run's directory, a full disk."""

    code = CANNOT_RUN


class Stopped(ConvoyError):
    """A person stopped the run; it was saved."""

    code = STOPPED


def reason(error: Exception) -> str:
    """Why an operation failed, to stand within a sentence: the system's own words for an OSError, "permission denied"."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def error(code: int, sentence: str) -> ConvoyError:
    """The error that ends a process with this exit code, ConvoyError itself for one that is nobody's."""
    kinds = {kind.code: kind for kind in ConvoyError.__subclasses__()}
    return kinds.get(code, ConvoyError)(sentence)
