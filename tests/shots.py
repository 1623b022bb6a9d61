"""Pictures of the running product in Chromium: `make shots` writes all to var/shots and the chosen ones to docs/.

Look at all of them before those in docs/ are committed.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from apps.console.screens import SCREENS
from tests.chromium import Console, chromium, console
from tests.processes import ROOT, require
from tests.serving import Engine
from tests.showroom import OFF_TOPIC, QUESTION, SWEPT, TALKING, showroom

DOCS = ROOT / "docs"
ALL = ROOT / "var" / "shots"
WIDE, PHONE = (1280, 860), (420, 860)
# Of the console; what is below it is not for a README.
TOP = (1400, 880)
CHOSEN = {
    "chatbot-answer": "chatbot",
    "chatbot-phone-dark": "chatbot-phone-dark",
    "console-overview-light": "console-overview",
    "console-deployments-light": "console-deployments",
    "console-saturation-light": "console-saturation",
    "console-live-dark": "console-live-dark",
}
COLOURS = 256
# Beyond each screen: its parts, as their buttons are called.
PARTS = {"index": ("Addresses", "Index"), "saturation": ("Capacity cards",), "traffic": (), "usage": ()}
ONE_PARTS = ("Events", "Log", "Try it", "Script", "Addresses", "Settings")


def chat(browser: Browser, address: str, size: tuple[int, int], dark: bool, end: str) -> Page:
    page = browser.new_page(
        locale="de-DE",
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
    )
    page.goto(address)
    page.locator("html.begun #box textarea").wait_for()
    save(page, f"chatbot{end}-start")
    choose(page, TALKING)
    return page


def choose(page: Page, model: str) -> None:
    """In the sidebar, which a phone hides."""
    if hidden := (page.viewport_size or {"width": 0})["width"] < 768:
        page.locator("button.toggle-button").click()
    page.locator("#model input").click()
    page.get_by_role("option", name=model).click()
    if hidden:
        page.locator("button.toggle-button").click()
        page.wait_for_timeout(500)


def ask(page: Page, text: str) -> None:
    turns = page.locator("#chat .turn:not(.busy)").count()
    page.locator("#box textarea").fill(text)
    page.locator("#box textarea").press("Enter")
    page.locator("#chat .turn:not(.busy)").nth(turns).wait_for(timeout=60_000)
    page.wait_for_timeout(700)


def save(page: Page, name: str) -> None:
    page.screenshot(path=ALL / f"{name}.png")


def shoot_chatbot(browser: Browser, address: str) -> None:
    for size, dark, end in ((WIDE, False, ""), (WIDE, True, "-dark"), (PHONE, True, "-phone-dark")):
        page = chat(browser, address, size, dark, end)
        ask(page, QUESTION)
        if size == WIDE:
            page.locator("#chat sup.cite a").first.click()
        else:
            page.locator("#chat .turn").first.evaluate("it => it.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(1500)
        save(page, f"chatbot{end or '-answer'}")
        page.locator("#new-chat").dispatch_event("click")
        page.locator("#chat .turn").first.wait_for(state="detached")
        ask(page, OFF_TOPIC)
        save(page, f"chatbot{end}-refusal")
        page.close()


def settled(tab: Console) -> None:
    """Until nothing runs any more and the charts are drawn."""
    tab.page.wait_for_timeout(1500)
    tab.page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=20_000)
    tab.page.wait_for_timeout(1000)


def shoot_console(browser: Browser, running: Engine, key: str, scheme: str, height: int) -> None:
    view = {"width": TOP[0], "height": height}
    with console(browser, running.address, color_scheme=scheme, viewport=view) as tab:

        def take(name: str) -> None:
            settled(tab)
            save(tab.page, f"console-{name}-{scheme}")

        save(tab.page, f"console-login-{scheme}")
        tab.log_in(key)
        for screen in SCREENS:
            tab.go(screen.title)
            take(screen.path)
            for part in PARTS.get(screen.path, ()):
                tab.part(part)
                take(f"{screen.path}-{part.split()[0].lower()}")
        tab.go("Deployments")
        tab.choose("Open one: select its row, or type its name", SWEPT)
        tab.heading(SWEPT)
        take("one")
        for part in ONE_PARTS:
            tab.part(part)
            take(f"one-{part.split()[0].lower()}")


def keep(name: str, into: str) -> None:
    """The top of a picture, with few colours."""
    with Image.open(ALL / f"{name}.png") as picture:
        top = picture.convert("RGB").crop(
            (0, 0, picture.width, TOP[1] if name.startswith("console") else picture.height)
        )
        palette = top.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(DOCS / f"{into}.png", optimize=True)


def main() -> int:
    require("chromium")
    DOCS.mkdir(exist_ok=True)
    ALL.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, showroom(Path(name) / "home") as running, chromium() as browser:
        key = running.key("admin")
        for scheme in ("light", "dark"):
            shoot_console(browser, running, key, scheme, 1600)
        shoot_chatbot(browser, running.address)
    for picture, into in CHOSEN.items():
        keep(picture, into)
    print("\n".join(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB" for path in DOCS.glob("*.png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
