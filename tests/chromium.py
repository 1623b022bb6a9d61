"""A real Chromium at the console: logs in, walks through the menu, and notes whatever is asked of other hosts."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from engine.own_apps import OWN_APPS, launch_request
from tests.processes import require
from tests.serving import Engine

FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-sandbox")  # fmt: skip
TIMEOUT_MS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or require("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


def launch_console(engine: Engine) -> None:
    """The console alone, as `engine up` launches it."""
    app = next(app for app in OWN_APPS if app.name == "console")
    with engine.client() as client:
        client.launch(**launch_request(app, engine.presence.url))
    engine.ready("console", 1)


@dataclass
class Console:
    """One tab with the console open."""

    page: Page
    strange: list[str]

    def picture(self) -> str:
        """Of what is on the screen now; returns its file."""
        path = Path(tempfile.gettempdir()) / "console-failed.png"
        self.page.screenshot(path=path)
        return str(path)

    def log_in(self, key: str) -> None:
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Log in").click()
        self.heading("Overview")

    def go(self, title: str) -> None:
        self.page.get_by_role("link", name=title, exact=True).click()
        self.heading(title)

    def heading(self, title: str) -> None:
        self.page.get_by_role("heading", name=title, exact=True).wait_for()

    def sees(self, text: str, timeout_s: float = 30) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=timeout_s * 1000)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def choose(self, label: str, value: str) -> None:
        """In a list that is searched by typing."""
        box = self.page.get_by_label(label, exact=True)
        box.click()
        box.fill(value)
        self.page.get_by_role("option").filter(has_text=re.compile(f"^{re.escape(value)}")).first.click()

    def type(self, label: str, value: str) -> None:
        box = self.page.get_by_label(label, exact=True)
        # What was there before stays until all of a screen is drawn anew.
        expect(box).to_have_count(1, timeout=TIMEOUT_MS)
        box.fill(value)
        box.press("Enter")

    def part(self, name: str) -> None:
        """Of a deployment's screen."""
        self.page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


@contextmanager
def console(browser: Browser, address: str, outage: bool = False, **context: object) -> Iterator[Console]:
    """Opens the console; nothing may be asked of another host, and no page may break or report an error.

    In an outage Chromium reports every request that failed; these are no errors of the page.
    """
    view = {"viewport": {"width": 1400, "height": 1400}, "locale": "en-US", **context}
    opened = browser.new_context(**view)  # type: ignore[arg-type]
    opened.set_default_timeout(TIMEOUT_MS)
    page, strange = opened.new_page(), list[str]()
    host = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(host) else strange.append(request.url))
    page.on("pageerror", lambda error: strange.append(f"the page broke: {error}"))
    if not outage:
        page.on("console", lambda said: strange.append(f"it reports: {said.text}") if said.type == "error" else None)
    page.goto(f"{address}/console/")
    page.get_by_label("Key").wait_for()
    tab = Console(page, strange)
    try:
        yield tab
    except BaseException:
        tab.picture()
        raise
    finally:
        opened.close()
    assert not strange, strange
