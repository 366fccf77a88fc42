"""The page of `convoy try`: what `convoy predict` says, and nothing that a stranger wrote is obeyed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import socket
import struct
import tempfile
import threading
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from convoy import exits, loopback
from convoy.cli import dispatch
from convoy.data.images.probe import MAX_BYTES
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import open_run
from convoy.trainer.predictions import Guess, Prediction
from convoy.trainer.tryout import asking, page
from convoy.trainer.verbs import predict, tryout
from support import serving

pytestmark = pytest.mark.slow

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\x1b[2J",
    "\u202egnp",
    "{{ 7*7 }}",
    "\udcff",
)


def shown(model, run_dir="runs/x"):
    server = loopback.Server(0)
    pages = page.pages(model, RunConfig(run_dir=run_dir).with_defaults())
    return serving(server, server.serve, pages, MAX_BYTES)


@pytest.fixture(scope="module")
def server(digits):
    """`convoy try` of the run on digits, without its processes."""
    with asking.Model(open_run(str(digits / "run")), 5, False) as model, shown(model) as server:
        yield server


def request(server, method: str, path: str, body: bytes | None = None):
    """(status, headers, content)"""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Origin": server.url.rstrip("/")} if body is not None else {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def answer(server, content: bytes) -> dict:
    status, headers, body = request(server, "POST", "/predict", content)
    values = json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert status == (422 if "error" in values else 200)
    return values


def predicted(digits: Path, out: Path, *argv: object) -> list[dict]:
    """What `convoy predict --json` writes, in this process."""
    argv = [f"--run_dir={digits / 'run'}", "--json", f"--out={out}", *map(str, argv)]
    assert predict.VERB.work(predict.VERB.parse(argv)) == exits.OK
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def files(digits, tmp_path_factory) -> dict[Path, dict]:
    """Six pictures and five files that are none -> what `convoy predict` says of each, a picture at a time."""
    good = sorted((digits / "new").iterdir())[:6]
    other = io.BytesIO()
    Image.new("RGB", (9, 8)).save(other, "JPEG")
    place = tmp_path_factory.mktemp("try")
    bad = [place / f"{index}.png" for index in range(5)]
    for file, content in zip(
        bad, (b"", b"text", bomb(), good[0].read_bytes()[:60], other.getvalue()), strict=True
    ):  # fmt: skip
        file.write_bytes(content)
    said = predicted(digits, place / "out", "--batch_size=1", *good, *bad)
    return dict(zip([*good, *bad], said, strict=True))


def test_the_page_says_what_predict_says_of_the_same_file(server, files):
    for file, said in files.items():
        each = answer(server, file.read_bytes())
        if "error" in said:
            assert each == {"error": said["error"]}
            continue
        assert each["classes"] == said["classes"], "bit for bit"
        assert len(each["classes"]) == 5
        assert 0 < each["seconds"] < 60
        kind, _, text = each["image"].partition(",")
        assert kind == "data:image/png;base64"
        shown = Image.open(io.BytesIO(base64.b64decode(text)))
        assert shown.mode == "L"
        assert np.array_equal(shown, Image.open(file)), "what the network sees"


def test_what_cannot_be_read_is_a_sentence(files):
    errors = [said["error"] for said in files.values() if "error" in said]
    assert len(errors) == 5
    assert "178,956,970 are the most" in errors[2]
    assert "is 9x8 pixels, and the run's images are 8x8" in errors[4]


@pytest.mark.thorough
def test_larger_batches_differ_by_rounding_alone(server, digits, tmp_path):
    pictures = sorted((digits / "new").iterdir())[:50]
    for file, said in zip(pictures, predicted(digits, tmp_path / "out", *pictures), strict=True):
        each = {guess["name"]: guess["probability"] for guess in answer(server, file.read_bytes())["classes"]}
        assert each == pytest.approx({guess["name"]: guess["probability"] for guess in said["classes"]}, abs=1e-6)


def bomb() -> bytes:
    """A PNG file of a few bytes that declares 10^10 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def test_two_clients_at_once_get_their_own_answers(server, digits):
    files = sorted((digits / "new").iterdir())[:8]
    alone = [answer(server, file.read_bytes())["classes"] for file in files]
    answers: dict[int, dict] = {}

    def client(first: int) -> None:
        for index in range(first, len(files), 2):
            answers[index] = answer(server, files[index].read_bytes())["classes"]

    threads = [threading.Thread(target=client, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[index] for index in range(len(files))] == alone


# Without a model


class Tags(HTMLParser):
    """The tags of a page, with their attributes; all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_names_are_data_and_no_part_of_the_page():
    guesses = tuple(Guess(name, index, 1 / 8) for index, name in enumerate(HOSTILE))
    with shown(lambda file: (Prediction("x", guesses), np.zeros((2, 2, 3), np.uint8)), HOSTILE[0]) as server:
        _, _, content = request(server, "GET", "/")
        text = Tags(content.decode())
        assert [tag for tag, _ in text.tags].count("script") == 1, "but the one of the page"
        assert HOSTILE[0] in text.text, "the name of the run, as it is written"
        assert not [name for _, attributes in text.tags for name in attributes if name.startswith(("on", "style"))]
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|setTimeout", text.text)
        _, headers, content = request(server, "POST", "/predict", b"x")
        assert [guess["name"] for guess in json.loads(content)["classes"]] == list(HOSTILE)
        assert content.isascii()
        assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("application/json", "nosniff")


def test_one_script_and_one_style_run_and_nothing_else_is_loaded():
    with shown(None) as server:
        nonces = set()
        for _ in range(2):
            _, headers, content = request(server, "GET", "/")
            policy = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
            nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["style-src"] == policy["script-src"]
            parsed = Tags(content.decode())
            assert [attributes for tag, attributes in parsed.tags if tag in ("script", "style")] == 2 * [
                {"nonce": nonce}
            ]
            assert not [
                a for _, attributes in parsed.tags for a in attributes.values() if a and a.startswith(("http", "//"))
            ]
            nonces.add(nonce)
        assert len(nonces) == 2
        labels = [tag for tag, _ in parsed.tags if tag == "label"]
        assert labels, "of the input"
        assert ("p", {"id": "status", "role": "status", "aria-live": "polite"}) in parsed.tags


def test_a_disk_without_room_is_a_sentence(monkeypatch):
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.tempfile, "TemporaryFile", full)
    with shown(None) as server:
        status, _, content = request(server, "POST", "/predict", b"x")
    assert status == 500
    assert re.fullmatch(rb"the picture cannot be kept in .*: no space left on device; make room there\.\n", content)


def test_a_picture_that_ends_the_stream_does_not_end_the_next(monkeypatch):
    def stream(opened, files, top, batch_size, tta):
        assert (top, batch_size, tta) == (3, 1, True)
        for file in files:
            text = Path(file.path).read_bytes()
            if text == b"too much":
                raise exits.CannotRun("out of memory.")
            yield Prediction(file.path, (Guess(str(len(text)), 0, 1.0),)), None

    monkeypatch.setattr(asking, "predict_with_images", stream)
    with asking.Model(SimpleNamespace(image_shape=(2, 2, 1)), 3, True) as model:
        for content, name in ((b"four", "4"), (b"too much", None), (b"again", "5")):
            with tempfile.TemporaryFile() as file:
                file.write(content)
                if name is None:
                    with pytest.raises(exits.CannotRun, match="out of memory"):
                        model(file)
                else:
                    assert model(file)[0].name == name


def test_a_run_without_pictures_is_refused():
    opened = SimpleNamespace(image_shape=(1, 1, 64), class_names=("a",), config=SimpleNamespace(run_dir="runs/x"))
    with pytest.raises(
        exits.CannotRun, match="the images of the run in runs/x have 64 channels, and files give 1 or 3"
    ):
        asking.Model(opened, 5, False)


@pytest.mark.parametrize(
    ("argv", "kind", "sentence"),
    [
        ([], exits.CannotRun, "--run_dir is missing"),
        (["--run_dir=x", "--port=65536"], exits.CannotRun, "--port=65536 is not possible: give a whole number from 0"),
        (["--run_dir=x", "--checkpoint=first"], exits.CannotRun, "give last, best or a step"),
        (["--run_dir=x", "a.png"], exits.UsageError, "a.png"),
    ],
)
def test_a_bad_command_is_refused_by_the_parent(argv, kind, sentence):
    with pytest.raises(kind, match=sentence):
        dispatch(["try", *argv])


def test_a_port_that_is_taken_and_a_place_that_is_no_run_are_said_before_seconds_are_spent(digits, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        argv = [f"--run_dir={digits / 'run'}", f"--port={taken.getsockname()[1]}"]
        with pytest.raises(exits.CannotRun, match="--port=.* cannot be listened on: address already in use"):
            tryout.VERB.work(tryout.VERB.parse(argv))
    with pytest.raises(exits.CannotRun, match="is no run"):
        tryout.VERB.work(tryout.VERB.parse([f"--run_dir={tmp_path}"]))
