"""report.html and comparison.html in a real browser: drawn, quiet, inert, at any width.

Needs Debian's Chromium and Playwright, which are no dependencies: `pip install playwright`, `apt-get install chromium`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from convoy.store import open_store
from convoy.trainer.report import comparison, page
from convoy.trainer.run_dir import opening

sys.path.append(str(Path(__file__).parent.parent / "trainer"))
from test_report import HOSTILE, drawn, predicted, run_directory

pytestmark = pytest.mark.thorough

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# What a reader would see of a broken page.
LOOK = """() => ({
  drawn: [...document.images].every(image => image.complete && image.naturalWidth > 0),
  pictures: document.images.length,
  wide: document.documentElement.scrollWidth,
  unnamed: [...document.images].filter(image => !image.alt).length,
  scripts: document.scripts.length,
  ground: getComputedStyle(document.documentElement).colorScheme,
  title: document.title,
})"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Pages by what is hard about them."""
    place = tmp_path_factory.mktemp("pages")
    hundred = [f"class {number} of a hundred" for number in range(100)]
    runs = {
        "hostile": run_directory(place / "hostile", HOSTILE, predicted(len(HOSTILE)), kept=drawn(128, 3), trained=[9] * 6),
        "digits": run_directory(place / "digits", list("0123456789"), predicted(10), kept=drawn(8), trained=[*range(90, 100)]),
        "hundred": run_directory(place / "hundred", hundred, predicted(100, examples=4000), examples=4000),
        "thousand": run_directory(place / "thousand", [f"n{number:08}" for number in range(1000)], predicted(1000)),
        "two": run_directory(place / "two", ["cat", "dog"], predicted(2), kept=drawn(48, 3)),
        "going": run_directory(place / "going", ["cat", "dog"], None, finished=False),
    }  # fmt: skip
    stores = {name: open_store(str(run_dir)) for name, run_dir in runs.items()}
    configs = {name: opening.trained_config(store, str(runs[name])).unchecked for name, store in stores.items()}
    for name, store in stores.items():
        page.write(store, configs[name])
    compared = place / "comparison.html"
    compared.write_bytes(
        comparison.page([(stores[name], configs[name]) for name in ("digits", "hostile", "two", "going")])
    )
    return {name: run_dir / "report.html" for name, run_dir in runs.items()} | {"comparison": compared}


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["hostile", "digits", "hundred", "thousand", "two", "going", "comparison"])
def test_a_page_is_drawn_and_does_nothing(browser, pages, name, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown, heard, requested = context.new_page(), [], []
    shown.on("console", lambda message: heard.append(message.text))
    shown.on("dialog", lambda dialog: heard.append(dialog.message))
    shown.on("pageerror", lambda error: heard.append(str(error)))
    shown.on("request", lambda request: requested.append(request.url[:60]))
    shown.goto(pages[name].as_uri())
    looks = shown.evaluate(LOOK)
    assert heard == []
    assert [url for url in requested if not url.startswith("data:")] == [pages[name].as_uri()[:60]]
    assert looks["drawn"], json.dumps(looks)
    assert looks["pictures"] >= 2
    assert looks["wide"] <= width, "nothing sticks out"
    assert (looks["unnamed"], looks["scripts"]) == (0, 0)
    ground = shown.evaluate("getComputedStyle(document.body).color")
    assert ground == ("rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)")
    context.close()


def test_a_page_can_be_read_by_keyboard_and_printed(browser, pages, tmp_path):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    shown = context.new_page()
    shown.goto(pages["thousand"].as_uri())
    reached = set()
    for _ in range(12):
        shown.keyboard.press("Tab")
        reached.add(shown.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert "SUMMARY." in reached, reached
    assert "DIV.scroll" in reached, "what is wider than the screen can be scrolled"
    assert shown.evaluate("[...document.querySelectorAll('th')].every(cell => cell.scope)")
    shown.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    context.close()
