"""`convoy try` as a person starts it, and its page in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import pytest
from PIL import Image

from support import QUICK, command, environment, write_images

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run on digits, and pictures of three of them."""
    from convoy.data.config import DataConfig
    from convoy.data.sources.opening import open_dataset

    home = tmp_path_factory.mktemp("try")
    argv = command("train", *QUICK, "--run_dir=run", "--duration=200st", "--augment=none")
    subprocess.run(argv, cwd=home, env=environment(), check=True, capture_output=True, timeout=150)
    test = open_dataset(DataConfig("digits")).split("test")
    for index in range(3):
        Image.fromarray(test.images[index][..., 0]).save(home / f"{index}.png")
    return home


@contextlib.contextmanager
def trying(home, *flags: str, **variables: str):
    """The address of the page; at the end Ctrl-C ends the command with 130."""
    argv = command("try", "--run_dir=run", *flags)
    process = subprocess.Popen(
        argv, cwd=home, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().split(" ")[0]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def post(url: str, content: bytes) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}predict", content), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_it_answers_as_predict_does_and_ctrl_c_ends_it(convoy, run, tmp_path, backend):
    files = [run / f"{index}.png" for index in range(3)]
    (tmp_path / "tmp").mkdir()
    with trying(run, f"--backend={backend}", TMPDIR=str(tmp_path / "tmp")) as url:
        answers = [post(url, file.read_bytes()) for file in files]
        assert post(url, b"no picture")[0] == 422
        assert list((tmp_path / "tmp").iterdir()) == [], "no picture has a name"
    outcome = convoy("predict", "--run_dir=run", "--json", "--batch_size=1", f"--backend={backend}", *files, cwd=run)
    assert outcome.code == 0, outcome
    said = [json.loads(line)["classes"] for line in outcome.out.splitlines()]
    assert [(status, answer["classes"]) for status, answer in answers] == [(200, classes) for classes in said]


def test_a_run_of_colour_pictures_of_any_size(convoy, tmp_path):
    write_images(tmp_path / "photos", ("cat", "dog"), each=12)
    argv = ["train", "--dataset=folder:photos", "--image_size=16", "--batch_size=8", "--duration=10st", "--run_dir=run"]
    assert convoy(*argv, cwd=tmp_path).code == 0
    content = io.BytesIO()
    Image.new("CMYK", (300, 200), (9, 99, 0, 0)).save(content, "JPEG")
    (tmp_path / "new.jpg").write_bytes(content.getvalue())
    with trying(tmp_path, "--tta") as url:
        status, answer = post(url, content.getvalue())
    assert status == 200
    outcome = convoy("predict", "--run_dir=run", "--json", "--tta", "--batch_size=1", "new.jpg", cwd=tmp_path)
    assert answer["classes"] == json.loads(outcome.out)["classes"]


@pytest.fixture
def browser():
    """Chromium, driven by Playwright, and what says that a page comes to show something; both may be absent."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser, playwright.expect
        browser.close()


def test_a_person_chooses_drops_and_pastes_pictures_in_a_browser(convoy, run, browser):
    outcome = convoy("predict", "--run_dir=run", "--json", *(run / f"{index}.png" for index in range(3)), cwd=run)
    names = [json.loads(line)["classes"][0]["name"] for line in outcome.out.splitlines()]
    assert len({*names}) > 1, "another picture, another answer"
    chromium, expect = browser
    page = chromium.new_page()
    status = page.locator("#status")
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))

    def assert_shows(name: str) -> None:
        expect(status).to_have_text(re.compile(rf"{re.escape(name)}, \d+\.\d%, in \d+ ms"))
        assert page.locator("#classes li").count() == 5
        assert page.locator("#classes li .name bdi").first.inner_text() == name
        expect(page.locator("#size")).to_have_text("As the network sees it, 8 by 8 pixels")
        expect(page.locator("#preview")).to_have_js_property("naturalWidth", 8)

    with trying(run) as url:
        page.goto(url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file", "by keyboard alone"
        page.set_input_files("#file", run / "0.png")
        assert_shows(names[0])
        for index, kind in ((1, "drop"), (2, "paste")):
            content = list((run / f"{index}.png").read_bytes())
            page.evaluate(
                """([content, kind]) => {
                    const files = new DataTransfer();
                    files.items.add(new File([new Uint8Array(content)], "new.png", { type: "image/png" }));
                    const given = kind === "drop" ? { dataTransfer: files } : { clipboardData: files };
                    const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
                    document.body.dispatchEvent(new Kind(kind, { bubbles: true, cancelable: true, ...given }));
                }""",
                [content, kind],
            )
            assert_shows(names[index])
        assert problems == []
        page.set_input_files(
            "#file", files=[{"name": "<b>x</b>.txt", "mimeType": "text/plain", "buffer": b"no picture"}]
        )
        expect(status).to_have_text(re.compile(r"<b>x</b>\.txt cannot be decoded: it is no JPEG, .* image\."))
        assert page.locator("#result").is_hidden()
        assert page.locator("#status b").count() == 0
    page.set_input_files("#file", run / "0.png")
    expect(status).to_contain_text("could not be sent")
