"""The filter of start-up noise drops its lines and passes all other text on at once."""

from __future__ import annotations

import io
import os
import threading

from convoy import noise

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795.98 2542 port.cc:153] oneDNN custom operations are on. You may see slightly different\n"
    b"E0000 00:00:1795.98 2542 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error\n"
    b"E0000 00:00:1795.98 2542 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512. Falling back\n"
)
SIGNAL = b"convoy: a sentence.\nE0000 00:00 1 coordination.cc:1] peer lost\n\nTraceback: no end of line"


def filtered(*chunks: bytes) -> bytes:
    reader, writer = os.pipe()
    target = io.BytesIO()
    with os.fdopen(reader, "rb") as source:
        thread = threading.Thread(target=noise.pass_on, args=(source, target))
        thread.start()
        for chunk in chunks:
            os.write(writer, chunk)
        os.close(writer)
        thread.join()
    return target.getvalue()


def test_noise_goes_and_the_rest_stays():
    assert filtered(NOISE + SIGNAL) == SIGNAL


def test_the_result_does_not_depend_on_how_the_text_is_cut():
    text = NOISE + SIGNAL + b"\n" + NOISE
    assert filtered(*(text[i : i + 1] for i in range(len(text)))) == SIGNAL + b"\n"


def test_an_unfinished_line_is_passed_on_at_once():
    reader, writer = os.pipe()
    received, sent = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(sent, "wb") as target:
        thread = threading.Thread(target=noise.pass_on, args=(source, target), daemon=True)
        thread.start()
        os.write(writer, b"Downloading: 40 %")
        assert os.read(received, 100) == b"Downloading: 40 %"
        os.close(writer)
        thread.join()
    os.close(received)
