"""A sweep from the console: begun in one browser, watched by two, stopped, resumed, found again with its numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from apps.console.views.experiments import RESULTS, results
from engine.bench.charts import sweep_of
from engine.own_apps import OWN_APPS, launch_request
from tests.processes import require, require_packages
from tests.serving import Engine, engine

SLOW_MS = 60_000
Enter = Callable[[], Page]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """At one address: the console, and a simulated server with two slots."""
    require("nginx")
    require_packages("streamlit")
    with engine(tmp_path_factory.mktemp("bench") / "home", {"ENGINE_SCHEDULER": "local"}) as running:
        with running.client() as client:
            brief = {"drain_timeout_s": 1}
            client.launch(model="simulator", name="two", arguments={"capacity": "2", "latency_ms": "200"}, **brief)
            app = next(app for app in OWN_APPS if app.name == "console")
            client.launch(**{**launch_request(app, running.presence.url), **brief})
        for name in ("two", "console"):
            running.ready(name, 1, timeout_s=120)
        yield running


@pytest.fixture
def enter(browser: Browser, bench: Engine) -> Iterator[Enter]:
    """Logs in, in a browser of its own; fails a test whose page asks another host, or breaks."""
    contexts: list[BrowserContext] = []
    strange: list[str] = []
    key = bench.key("admin")

    def note(request: Request) -> None:
        if not request.url.startswith((bench.address, "data:", "blob:")):
            strange.append(request.url)

    def entered() -> Page:
        context = browser.new_context(locale="en-US", viewport={"width": 1400, "height": 2000})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SLOW_MS)
        page.on("request", note)
        page.on("pageerror", lambda error: strange.append(f"the page broke: {error}"))
        page.goto(f"{bench.address}/console/")
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("Needs attention")).to_be_visible(timeout=SLOW_MS)
        return page

    yield entered
    for context in contexts:
        context.close()
    assert strange == []


def show(page: Page, screen: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_text(screen, exact=True).click()
    expect(page.get_by_role("heading", name=screen, exact=True)).to_be_visible(timeout=SLOW_MS)


def sees(page: Page, tile: str, value: str) -> None:
    found = page.locator(".e-tile", has=page.get_by_text(tile, exact=True)).locator(".value")
    expect(found).to_have_text(value, timeout=SLOW_MS)


# Its sweep takes half a minute on a quiet machine, and invalid trials of a busy one are repeated.
@pytest.mark.slow
def test_a_sweep_is_watched_by_two_stopped_resumed_and_found_under_saturation(bench: Engine, enter: Enter) -> None:
    mine, other = enter(), enter()
    for page in (mine, other):
        show(page, "Live benchmark")
    expect(other.get_by_text("No sweep was started yet")).to_be_visible()

    mine.get_by_label("Trials of each level").fill("1")
    mine.get_by_label("CPU that others may use").fill("100")
    mine.get_by_label("No more users than").fill("6")
    mine.get_by_label("No more users than").press("Tab")
    mine.get_by_role("button", name="Start", exact=True).click()
    for page in (mine, other):
        sees(page, "State", "running")
    other.get_by_role("button", name="Stop", exact=True).click()
    for page in (mine, other):
        sees(page, "State", "stopped")
    mine.get_by_role("button", name="Resume", exact=True).click()
    # Both see points as they are measured; the other one has not pressed this.
    for page in (mine, other):
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=SLOW_MS)
    for page in (mine, other):
        sees(page, "State", "done")

    [folder] = (bench.home / "experiments").iterdir()
    show(mine, "Saturation")
    cells = mine.locator("table", has=mine.get_by_text("Saturates at, users")).locator("tbody td")
    expect(cells).to_have_count(len(RESULTS), timeout=SLOW_MS)
    assert [text or "–" for text in cells.all_text_contents()] == _told(folder)
    assert mine.get_by_test_id("stVegaLiteChart").count() >= 3


def _told(folder: Path) -> list[str]:
    """The numbers of result.json, as the screen writes them."""
    [value] = json.loads((folder / "result.json").read_text())
    sweep = sweep_of(value)
    assert any(trial.valid for trial in sweep.trials)
    [row] = results([sweep], [f"{sweep.deployment} (simulated)"])
    return [getattr(cell, "text", None) or str(cell or "–") for cell in row]
