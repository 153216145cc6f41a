"""``make test-report``: reports in headless Chromium, on a phone and on a desk, light and dark, and on paper.

Screenshots go to build/report/ for people to look at. CHROMIUM names the browser where it is not /usr/bin/chromium.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished_sweep import swept
from playwright.sync_api import Browser, Page, sync_playwright

from scenarios import report, run_folder
from scenarios.costs.counting import Memory
from scenarios.costs.prediction import Prediction
from scenarios.judging import baselines
from scenarios.running import runner
from scenarios.scenario import load

SCREENSHOTS = Path(__file__).parents[2] / "build" / "report"
QUICK = ["epochs=3", "encryption.key_bits=512", "insecure_key=true"]
RUNS = {
    "shared": ("breast-cancer", []),
    "open": ("breast-cancer", ["disclosure=open"]),
    "recommender": ("shop-bank-telco", []),
}
PARTS = ["clinic", "laboratory", "coordinator"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, _played_once: Path) -> dict[str, Path]:
    """Every kind of report, by name; one run has its predicted cost."""
    folder = tmp_path_factory.mktemp("runs")
    written = {}
    for name, (scenario, changes) in RUNS.items():
        run = runner.run(load(scenario, [*QUICK, *changes]))
        predicted = foretold(run) if name == "shared" else None
        written[name] = run_folder.write(run, baselines.compare(run), folder, predicted)
    reports = {name: report.write(run) for name, run in written.items()}
    comparison = report.compare(list(written.values()), folder / "comparison.html")
    parts = {name: next((_played_once / name).glob("*/report.html")) for name in PARTS}
    swept(folder / "sweep")
    sweep = report.write_sweep(folder / "sweep")
    return {**reports, **parts, "comparison": comparison, "sweep": sweep}


def foretold(run: runner.Run) -> Prediction:
    """Predict that every party takes a second."""
    seconds = {(party, "masks"): 1.0 for party in run.ledgers}
    memory = dict.fromkeys(run.ledgers, Memory(lasting=10_000_000, working=20_000_000))
    return Prediction(2, seconds, {("clinic", "laboratory"): 2_000_000}, {}, memory, 90_000_000)


@pytest.fixture(scope="module")
def browser(pages: dict[str, Path]) -> Iterator[Browser]:
    """Start after all runs are through: both need the thread's event loop."""
    assert pages
    with sync_playwright() as playwright:
        # Nothing but our own page is opened, so that a container without user namespaces may do without a sandbox.
        started = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", [*RUNS, *PARTS, "comparison", "sweep"])
def test_a_report_looks_right(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    for details in page.locator("summary").all():
        details.click()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert smallest_text(page) >= 10
    assert unreachable(page) == []
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(253, 252, 250)") == (scheme == "light")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    context.close()


def smallest_text(page: Page) -> float:
    """Return the size in pixels of the smallest text as it is drawn, inside of scaled drawings too."""
    return float(
        page.evaluate(
            """() => Math.min(...[...document.querySelectorAll("text, p, td, th, dd, dt, li, summary")].map(one => {
                const drawn = one instanceof SVGElement ? one.getScreenCTM().a : 1;
                return drawn * parseFloat(getComputedStyle(one).fontSize);
            }))"""
        )
    )


def unreachable(page: Page) -> list[str]:
    """Return what scrolls but cannot be reached by keyboard, and what the keyboard reaches without a name."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter(one => {
            const scrolls = one.scrollWidth > one.clientWidth + 1
                && ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
            const reached = one.hasAttribute("tabindex");
            return (scrolls && !reached) || (reached && !one.getAttribute("aria-label"));
        }).map(one => one.outerHTML.slice(0, 80))"""
    )
    return found


def test_the_keyboard_begins_at_the_results(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["shared"].as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    page.close()


@pytest.mark.parametrize("name", ["shared", "clinic", "comparison", "sweep"])
def test_a_report_prints(browser: Browser, pages: dict[str, Path], name: str) -> None:
    page = browser.new_page()
    page.goto(pages[name].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    pdf = page.pdf(
        format="A4", margin={"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"}
    )
    (SCREENSHOTS / f"{name}.pdf").write_bytes(pdf)
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    page.close()


def test_a_drawing_stands_alone(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 400}, color_scheme="dark")
    page.goto((pages["shared"].parent / "plots" / "roc.svg").as_uri())
    page.screenshot(path=SCREENSHOTS / "roc.png")
    line = page.locator("path.curve").first
    assert line.evaluate("one => getComputedStyle(one).stroke") != "none"
    page.close()
