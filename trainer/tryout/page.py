"""The page of `convoy try`, and what it asks for: a prediction of the picture that a person dropped on it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import secrets
import sys
import tempfile
import time
from typing import Any

from convoy import exits, loopback
from convoy.data.images.probe import MAX_BYTES
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import open_run
from convoy.trainer.flags.prediction import TryConfig
from convoy.trainer.outputs import template
from convoy.trainer.tryout.asking import Model, png

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def serve(config: TryConfig, server: loopback.Server) -> None:
    """Shows the page until Ctrl-C.

    Args:
      config: the flags.
      server: which listens already.

    Raises:
      exits.BadData, exits.CannotRun: the run cannot be opened, or its images are no pictures.
    """
    with contextlib.redirect_stdout(sys.stderr):  # code of a user's model may print
        opened = open_run(config.run_dir, config.checkpoint, config.backend, config.model, config.trust_model_code)
        model = Model(opened, config.top, config.tta)
    with model:
        print(f"{server.url} shows what {config.run_dir} says of a photograph; Ctrl-C ends that.", flush=True)
        server.serve(pages(model, dataclasses.replace(opened.config, run_dir=config.run_dir)), MAX_BYTES)


def pages(model: Model, config: RunConfig) -> dict[tuple[str, str], loopback.Page]:
    """What a server shows of a model: the page, and the answer to a picture that it sends."""
    return {("GET", "/"): lambda body: _page(config), ("POST", "/predict"): lambda body: _prediction(model, body)}


def _page(config: RunConfig) -> loopback.Answer:
    nonce = secrets.token_urlsafe(16)
    content = template.filled(
        __package__, "page.html", {"title": template.title(config), "nonce": nonce, "max_bytes": MAX_BYTES}
    )
    return loopback.Answer(content, "text/html; charset=utf-8", policy=_POLICY.format(nonce=nonce))


def _prediction(model: Model, body: loopback.Body) -> loopback.Answer:
    """JSON: "classes" as `convoy predict` prints them, "seconds", and "image", the PNG that the model was shown; or "error"."""
    try:
        with tempfile.TemporaryFile() as file:  # which has no name, and is gone however this process ends
            body.copy_to(file)
            began = time.perf_counter()
            prediction, image = model(file)
            seconds = time.perf_counter() - began
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        raise exits.CannotRun(
            f"the picture cannot be kept in {tempfile.gettempdir()} meanwhile: {exits.reason(error)}; make room there."
        ) from error
    if prediction.error or image is None:
        return _json({"error": prediction.error}, 422)
    said = json.loads(prediction.to_json())
    shown = f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
    return _json({"classes": said["classes"], "seconds": round(seconds, 6), "image": shown}, 200)


def _json(values: dict[str, Any], status: int) -> loopback.Answer:
    return loopback.Answer(json.dumps(values).encode(), "application/json", status)
