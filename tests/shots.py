"""Pictures for the README, of the running product in Chromium: `make shots` writes docs/chatbot-*.png.

The index is the sample's; answers are a scripted server's, for the packaged model writes none worth reading.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from engine.own_apps import OWN_APPS, launch_request
from rag import sample
from tests.chromium import FLAGS
from tests.processes import ROOT, require
from tests.serving import Engine, engine

DOCS = ROOT / "docs"
TODAY = "2026-11-20"
QUESTION = "Bis wann muss ich mich für das Sommersemester zurückmelden?"
OFF_TOPIC = "Wie wird das Wetter morgen?"
REPLY = (
    "Die Rückmeldung zum Sommersemester 2027 läuft vom **15. Januar bis zum 15. Februar 2027** [1]. "
    "Zurückgemeldet bist Du, sobald der Semesterbeitrag eingegangen ist [1]."
    " Danach bekommst Du eine Bestätigung mit der Post."
)


def launch(running: Engine) -> None:
    with running.client() as client:
        arguments = {"reply": REPLY, "ttft_ms": "100", "itl_ms": "20"}
        client.launch(model="simulator", name="beispielmodell", arguments=arguments, drain_timeout_s=1)
        app = next(app for app in OWN_APPS if app.name == "chatbot")
        request = launch_request(app, running.presence.url, running.key())
        environment = {**request["environment"], "ENGINE_TODAY": TODAY}
        client.launch(**{**request, "environment": environment, "drain_timeout_s": 1})
    running.ready("beispielmodell", 1)
    running.ready("chatbot", 1, timeout_s=120)


def opened(browser: Browser, address: str, width: int, height: int, dark: bool) -> Page:
    page = browser.new_page(
        locale="de-DE",
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1.5,
    )
    page.goto(address)
    page.locator("html.begun #box textarea").wait_for()
    return page


def ask(page: Page, text: str) -> None:
    turns = page.locator("#chat .turn:not(.busy)").count()
    page.locator("#box textarea").fill(text)
    page.locator("#box textarea").press("Enter")
    page.locator("#chat .turn:not(.busy)").nth(turns).wait_for(timeout=60_000)


def shoot(browser: Browser, address: str) -> None:
    page = opened(browser, address, 1280, 860, dark=False)
    page.screenshot(path=DOCS / "chatbot-start.png")
    ask(page, QUESTION)
    page.locator("#chat sup.cite a").first.click()
    page.wait_for_timeout(2000)
    page.screenshot(path=DOCS / "chatbot.png")
    ask(page, OFF_TOPIC)
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / "chatbot-refusal.png")
    page = opened(browser, address, 420, 860, dark=True)
    ask(page, QUESTION)
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / "chatbot-phone-dark.png")


def main() -> int:
    DOCS.mkdir(exist_ok=True)
    path = require("chromium")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        sample.build_sample(home / "local" / "index")
        with engine(home, {"ENGINE_SCHEDULER": "local"}) as running, sync_playwright() as playwright:
            launch(running)
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
            shoot(browser, running.address)
            browser.close()
    print("\n".join(str(path.relative_to(ROOT)) for path in sorted(DOCS.glob("chatbot*.png"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
