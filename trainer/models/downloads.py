"""Downloads in a user's own code that fail: a sentence in the place of a library's traceback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.error import URLError

from convoy import exits
from convoy.outside import printable

_CLIENTS = ("requests", "urllib3", "httpx", "httpcore", "huggingface_hub", "kagglehub")  # have errors of their own


@contextlib.contextmanager
def downloading(model: str) -> Iterator[None]:
    """Use around code of --model. Raises CannotRun for a download that failed there; any other error is the code's own."""
    try:
        yield
    except Exception as error:
        if not any(map(_is_of_network, _causes(error))):
            raise
        why = printable((str(error).splitlines() or [type(error).__name__])[0])[:200].rstrip(".")
        raise exits.CannotRun(
            f"--model={model} needs a file that cannot be downloaded ({why}); download it where there is a network, and put it"
            " where the code looks for it."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_network(error: BaseException) -> bool:
    """Whether it says that a server was not reached, or did not give what it was asked for."""
    if isinstance(error, (URLError, ConnectionError, TimeoutError, socket.gaierror)):
        return True
    # Keras' get_file raises Exception itself, with the address.
    keras_own = type(error) is Exception and str(error).startswith("URL fetch failure")
    return keras_own or type(error).__module__.partition(".")[0] in _CLIENTS
