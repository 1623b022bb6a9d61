"""One command from a site's address to an index with a report, on the made-up university as it is served."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.settings import ROOT
from tests.university.pages import DOMAIN
from tests.university.serving import START, University, serving

pytestmark = pytest.mark.slow

# Two hosts of the site with all their pages, and no more.
SMALL = (f"http://asta.{DOMAIN}/", f"http://sport.{DOMAIN}/", "--name", "small")


def rag(folder: Path, *arguments: str) -> str:
    environ = {**os.environ, "ENGINE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "rag", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refresh(folder: Path, site: University, *more: str) -> str:
    resolve = [part for one in site.resolve for part in ("--resolve", one)]
    options = ("--delay-s", "0", "--allow-private", "--contact", "tests@hs.example")
    return rag(folder, "refresh", *(more or (START, "--max-pages", "30")), *options, *resolve)


def crawled(told: str) -> dict[str, int]:
    """Numbers of the crawl's summary: `10 pages of 2 hosts, 16 requests, 50,313 bytes, 0 waiting`."""
    line = next(line for line in told.splitlines() if " requests, " in line)
    return {name: int(number.replace(",", "")) for number, name in re.findall(r"(\d[\d,]*) (\w+)", line)}


def test_a_second_refresh_of_an_unchanged_site_downloads_next_to_nothing_and_embeds_nothing(tmp_path: Path) -> None:
    with serving() as site:
        first = refresh(tmp_path, site, *SMALL)
        asked = len(site.asked)
        second = refresh(tmp_path, site, *SMALL)
        again = site.asked[asked:]

    before, after = crawled(first), crawled(second)
    assert before["pages"] == after["pages"] == 10
    assert "ended by: nothing left" in first and "ended by: nothing left" in second
    assert before["bytes"] > 40_000
    # Every page is asked for again, and answered by 304 without a body.
    assert after["bytes"] < before["bytes"] / 10
    assert len(again) == after["requests"] <= before["requests"]
    assert "g0001 is current" in first and ", 0 embedded anew" not in first
    assert "g0002 is current" in second and ", 0 embedded anew" in second


def test_a_site_is_crawled_indexed_and_reported_on_and_an_unchanged_page_is_not_embedded_again(tmp_path: Path) -> None:
    with serving() as site:
        first = refresh(tmp_path, site)
    second = rag(tmp_path, "build")

    assert "g0001 is current" in first
    assert "pages       30" in first
    assert "empty       0" in first
    assert "untitled    0" in first
    assert "g0002 is current" in second
    assert ", 0 embedded anew" in second
    found = json.loads(rag(tmp_path, "search", "Wie erreiche ich den Studierendenservice?", "--json"))
    assert found["passages"][0]["url"].startswith("http://")
    assert {"text", "title", "heading_path", "date", "score", "twins"} <= found["passages"][0].keys()
    listed = json.loads(rag(tmp_path, "generations", "--json"))
    assert [(one["name"], one["current"]) for one in listed] == [("g0001", False), ("g0002", True)]
    assert rag(tmp_path, "rollback") == "g0001 is current\n"
