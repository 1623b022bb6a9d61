"""The chatbot in Chromium, through NGINX, on real parts."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.campus import SITE
from tests.serving import Engine, until

ANSWER_MS = 60_000


def choose(page: Page, model: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=re.compile(rf"^\W*{re.escape(model)}\b")).click()


def ask(page: Page, text: str, *files: Path) -> None:
    for file in files:
        page.locator("#box input[type=file]").set_input_files(file)
        page.locator("#box").get_by_label("Remove file").or_(page.locator("#box .thumbnail-item")).first.wait_for()
    page.locator("#box textarea").fill(text)
    page.locator("#box textarea").press("Enter")


def answer(page: Page, turn: int = -1) -> Locator:
    """The drawn answer of a turn, when it has ended."""
    bots = page.locator("#chat [data-testid=bot]")
    found = bots.last if turn < 0 else bots.nth(turn)
    found.locator(".turn:not(.busy)").wait_for(timeout=ANSWER_MS)
    return found


def test_in_english_a_real_model_answers_from_the_index_and_its_source_opens(open_page: Open) -> None:
    page = open_page()
    choose(page, "smollm2-135m")
    ask(page, "When is the library open on Saturday?")
    told = answer(page)
    assert len(told.locator(".answer").inner_text()) > 5
    card = told.locator("details.card", has_text="University library").first
    card.locator("summary").click()
    expect(card.locator("blockquote")).to_contain_text("10:00 to 16:00")
    assert card.get_by_role("link", name="Open the page").get_attribute("href") == f"{SITE}/en/library"


def test_in_german_citations_open_their_page_and_what_is_not_borne_out_is_marked(open_page: Open) -> None:
    page = open_page("de-DE")
    choose(page, "scripted")
    ask(page, "Bis wann muss ich mich zurückmelden?")
    told = answer(page)
    expect(told.locator("sup.cite").first).to_have_text("1")
    told.locator("sup.cite-1 a").first.click()
    card = told.locator("details.card-1")
    expect(card).to_have_attribute("open", "")
    assert "15" in card.locator("mark").all_inner_texts() and "Stand 1. September 2026" in card.inner_text()
    assert card.get_by_role("link", name="Seite öffnen").get_attribute("href") == f"{SITE}/de/rueckmeldung"
    assert card.get_by_role("link", name="Englische Fassung").get_attribute("href") == f"{SITE}/en/re-registration"
    expect(told.locator(".unsupported").first).to_contain_text("Fahrrad")
    # Of the model's own link and script nothing is left but text; there is no ninth passage.
    assert page.locator("#chat a[href*=evil]").count() == 0 and page.locator("#chat script").count() == 0
    assert "<script>" in told.inner_text() and "[9]" not in told.inner_text()


def test_orders_and_scripts_in_a_page_of_the_index_change_nothing(open_page: Open) -> None:
    page = open_page()
    choose(page, "scripted")
    ask(page, "What does a room in the hall of residence cost?")
    told = answer(page)
    for card in told.locator("details.card").all():
        card.locator("summary").click()
    assert page.title() != "taken over"
    hrefs = [link.get_attribute("href") for link in page.locator("#chat a[href]").all()]
    assert all(href and (href.startswith(SITE) or href.startswith("#source-")) for href in hrefs), hrefs


def test_what_the_pages_do_not_tell_is_refused_with_the_right_office(open_page: Open, campus: Engine) -> None:
    page = open_page("de-DE")
    ask(page, "Wie wird das Wetter morgen in Ingolstadt?")
    told = answer(page)
    expect(told.locator(".refused")).to_contain_text("raten möchte ich nicht")
    expect(told.locator(".office")).to_contain_text("Raum B 101")
    assert told.locator(".nearest a").count() > 0

    with campus.client() as client:
        refused = until(lambda: client.feedback_list("refused"), 10, "the refusal is noted")
    assert refused[0]["question"] == "Wie wird das Wetter morgen in Ingolstadt?"


def test_a_follow_up_is_searched_for_with_what_it_leaves_out(open_page: Open) -> None:
    page = open_page("de-DE")
    choose(page, "scripted")
    ask(page, "Wann hat die Bibliothek am Montag geöffnet?")
    answer(page, 0)
    ask(page, "Und am Samstag?")
    told = answer(page, 1)
    expect(told.locator(".searched q")).to_contain_text("Bibliothek")
    expect(told.locator(".searched q")).to_contain_text("Samstag")


def test_a_drawn_red_circle_is_named_by_a_real_model_that_sees(open_page: Open, red_circle: Path) -> None:
    page = open_page()
    choose(page, "smollm2-135m")
    ask(page, "What shape and colour is in the image?", red_circle)
    # This model cannot see, and was not asked; one that can is offered.
    expect(answer(page)).to_contain_text("cannot see pictures")
    page.get_by_role("button", name="Look at it with toy-eye").click()
    page.locator("#chat .turn .answer").wait_for(timeout=ANSWER_MS)
    told = answer(page).locator(".answer").inner_text().lower()
    assert "red" in told and "circle" in told


def test_the_german_text_of_a_screenshot_is_recognised(open_page: Open, tmp_path: Path) -> None:
    page = open_page("de-DE", width=700, height=300)
    page.set_content("<p style='font: 24px sans-serif'>Prüfung in Höhere Mathematik<br>Raum G 204, 9:30 Uhr</p>")
    page.screenshot(path=tmp_path / "screenshot.png")
    page = open_page("de-DE")
    choose(page, "scripted")
    ask(page, "Wo ist die Prüfung?", tmp_path / "screenshot.png")
    expect(answer(page)).to_contain_text("kann keine Bilder sehen")
    page.get_by_role("button", name="Nur den Text im Bild lesen").click()
    page.locator("#chat .turn .recognised").wait_for(timeout=ANSWER_MS)
    told = answer(page).inner_text()
    assert "Prüfung in Höhere Mathematik" in told and "G 204" in told


def test_the_tribunals_steps_are_shown(open_page: Open) -> None:
    page = open_page()
    choose(page, "scripted")
    page.locator("#tribunal input").check()
    ask(page, "When is the library open on Saturday?")
    steps = answer(page).locator("details.steps")
    steps.locator("summary").click()
    expect(steps.locator("li").first).to_have_text("Draft written")
    assert steps.locator("li").count() >= 4


def test_an_answer_can_be_stopped_and_what_was_written_stays(open_page: Open) -> None:
    page = open_page("de-DE")
    choose(page, "slow")
    ask(page, "Wie hoch ist der Semesterbeitrag bei der Rückmeldung?")
    page.locator("#chat .turn.busy .answer").wait_for(timeout=ANSWER_MS)
    page.get_by_role("button", name="Anhalten").click()
    told = answer(page)
    expect(told).to_contain_text("Angehalten.")
    expect(page.get_by_role("button", name="Absenden")).to_be_visible()
    page.reload()
    expect(page.locator("#chat [data-testid=bot]")).to_contain_text("Angehalten.")


def test_an_engine_that_dies_in_mid_answer_is_told_and_asked_again(open_page: Open, campus: Engine) -> None:
    page = open_page()
    choose(page, "slow")
    replica = only_replica(campus, "slow")
    process = process_at(replica["endpoint"])
    ask(page, "How much is the fee for re-registration?")
    page.locator("#chat .turn.busy .answer", has_text="72,50").wait_for(timeout=ANSWER_MS)
    os.kill(process, signal.SIGKILL)
    told = answer(page)
    expect(told.get_by_role("alert")).to_contain_text("broke in the middle of the answer")
    assert "72,50" in told.locator(".answer").inner_text()

    until(lambda: only_replica(campus, "slow")["job_id"] != replica["job_id"], 60, "another replica is submitted")
    campus.ready("slow", 1)
    page.get_by_role("button", name="Try again").click()
    page.locator("#chat .turn.busy .answer").wait_for(timeout=ANSWER_MS)
    assert page.locator("#chat .trouble").count() == 0


def only_replica(engine: Engine, name: str) -> dict[str, Any]:
    with engine.client() as client:
        [replica] = client.deployment(name)["replicas"]
    found: dict[str, Any] = replica
    return found


def process_at(endpoint: str) -> int:
    """The simulator that listens there."""
    port = endpoint.rpartition(":")[2]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"engine.bench.simulator" in words and port.encode() in words:
            return int(folder.name)
    raise AssertionError(f"no simulator listens at {endpoint}")


def test_conversations_stay_in_the_browser_alone(open_page: Open) -> None:
    page = open_page()
    ask(page, "Hello!")
    answer(page)
    page.reload()
    expect(page.locator("#chat [data-testid=user]")).to_have_text("Hello!")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#chat .welcome")).to_be_visible()
    page.locator("#chats label", has_text="Hello!").click()
    expect(page.locator("#chat [data-testid=user]")).to_have_text("Hello!")
    page.get_by_role("button", name="Delete all conversations").click()
    expect(page.locator("#chat .welcome")).to_be_visible()
    page.reload()
    expect(page.locator("#chat .welcome")).to_be_visible()
    # Another browser never saw any of it.
    assert open_page().locator("#chats label").count() == 0


def test_the_screen_speaks_the_browsers_language_and_can_be_switched(open_page: Open) -> None:
    page = open_page("de-DE")
    expect(page.get_by_role("heading", name="Was möchtest Du wissen?")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "de"
    page.locator("#language label", has_text="English").click()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


def test_a_dislike_with_its_reason_reaches_the_operator_without_personal_numbers(
    open_page: Open, campus: Engine
) -> None:
    page = open_page()
    choose(page, "scripted")
    ask(page, "My phone is 0841 9348-1234: when do I have to re-register?")
    answer(page)
    page.locator("#chat .message-buttons-left").get_by_role("button").filter(has=page.locator("svg")).nth(1).click()
    page.locator("#reasons label", has_text="Out of date").click()
    page.locator("#send-reason").click()
    with campus.client() as client:
        [said] = until(lambda: client.feedback_list("dislike"), 10, "the dislike arrives")
    assert said["reason"] == "Out of date" and "9348" not in said["question"] and "[phone]" in said["question"]
    assert said["sources"] == [f"{SITE}/en/re-registration"] or said["sources"]


def test_a_phone_in_the_dark_shows_all_of_it(open_page: Open) -> None:
    page = open_page("de-DE", width=420, height=860, dark=True)
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
        == "rgb(26, 24, 23)"
    )
    expect(page.locator("#side")).not_to_have_class(re.compile(r"\bopen\b"))
    ask(page, "Hallo")
    answer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    box = page.locator("#box").bounding_box()
    assert box and box["y"] + box["height"] < 860


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page: Open) -> None:
    page = open_page()
    choose(page, "scripted")
    ask(page, "When do I have to re-register?")
    told = answer(page)
    told.locator("sup.cite a").first.focus()
    page.keyboard.press("Enter")
    expect(told.locator("details.card[open]")).to_have_count(1)
    expect(page.locator("#chat [data-testid=bot]")).to_have_attribute("aria-label", "Answer")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, [role=combobox]')]
            .filter((part) => part.offsetParent && !part.ariaLabel && !part.title && !part.innerText.trim()
                && !part.closest('label') && !part.labels?.length && !part.placeholder)
            .map((part) => part.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


def test_the_page_may_load_nothing_from_elsewhere(campus: Engine) -> None:
    policy = httpx.get(campus.address, trust_env=False).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http:" not in policy and "https:" not in policy
