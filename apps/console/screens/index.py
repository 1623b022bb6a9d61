"""Index and crawl: begin, pause, go on; what became of each address; generations, building and rolling back."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import crawls, frame, markup
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.views import crawls as view
from engine.errors import ConfigurationError

PARTS = ("Crawls", "Addresses", "Index")
PAGE = 200
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
NO_CRAWL = "Nothing was crawled yet. Begin a crawl below: it asks politely, keeps what it is sent, and can be paused."
NO_INDEX = "There is no index yet, so the chatbot answers nothing. Crawl a site, then build the index here."


def draw(feed: Feed) -> None:
    frame.begin("Index and crawl")
    part = frame.choose("Part", PARTS, key="index-part")
    {"Crawls": _crawls, "Addresses": _addresses, "Index": _index}[part](feed)


def _crawls(feed: Feed) -> None:
    frame.live(
        feed,
        "crawls",
        lambda _: crawls.every(),
        lambda found: frame.frame(view.crawls(found), key="crawls", most_rows=6),
        every_s=3.0,
        empty=NO_CRAWL,
    )
    if name := _picked(feed):
        frame.live(
            feed, ("crawl", name), lambda _: crawls.one(name), lambda one: _one(feed, one), every_s=2.0, stamped=False
        )
    with st.expander("Begin a crawl", expanded=not name):
        _begin(feed)


def _picked(feed: Feed) -> str:
    """The crawl that the rest of the screen is about; empty when there is none."""
    names = [one["name"] for one in feed.read("crawls", lambda _: crawls.every(), fresh_s=2.0).value or []]
    if not names:
        return ""
    wished = st.session_state.pop("crawl-next", None) or st.session_state.get("crawl")
    st.session_state["crawl"] = wished if wished in names else names[0]
    return str(st.selectbox("Crawl", names, key="crawl", width=300))


def _one(feed: Feed, one: dict[str, Any]) -> None:
    name = one["name"]
    st.html(markup.tiles(view.tiles(one)))
    with st.container(horizontal=True):
        if one["state"] == "running":
            if st.button("Pause", key="pause-crawl"):
                _done(feed, lambda _: crawls.pause(name), f"{name} is paused.")
        elif one["state"] != "done":
            if st.button("Go on", key="resume-crawl"):
                _done(feed, lambda _: crawls.begin(name, []), f"{name} goes on.")
        elif st.button("Crawl again", key="again-crawl"):
            said = f"{name} is crawled again; what has not changed is not sent again."
            _done(feed, lambda _: crawls.begin(name, []), said)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Addresses by outcome", anchor=False)
        st.html(markup.table([Column("Outcome"), Column("Addresses", number=True)], view.outcomes(one)))
        if one["visits"]:
            st.html(
                markup.named("Kept pages were last seen", markup.bar(view.freshness(one["visits"], datetime.now(UTC))))
            )
    with right:
        st.subheader("Hosts", anchor=False)
        columns = [Column(host, number=host != "Host") for host in view.HOSTS]
        st.html(markup.table(columns, view.hosts(one)[:30]))
        if len(one["by_host"]) > 30:
            st.caption(f"The 30 with most pages, of {len(one['by_host'])}.")


def _done(feed: Feed, change: Callable[[Any], Any], said: str) -> None:
    """Does it from within a part that refreshes by itself, and draws all of the screen anew."""
    if frame.told(feed, change, said) is not None:
        st.rerun(scope="app")


def _begin(feed: Feed) -> None:
    with st.form("begin-crawl", border=False):
        seeds = st.text_area(
            "Begins at (addresses, one a line)", placeholder="https://www.thi.de/", height=70, key="crawl-seeds"
        )
        name = st.text_input("Name", placeholder="thi.de", key="crawl-name", width=300)
        left, middle, right = st.columns(3)
        with left:
            pages = st.number_input("Keep at most, pages", 1, 1_000_000, 100, key="crawl-pages")
        with middle:
            hosts = st.number_input("Ask at most, hosts", 1, 100_000, 100, key="crawl-hosts")
        with right:
            delay = st.number_input("Seconds between two requests to a host", 0.0, 3600.0, 1.0, key="crawl-delay")
        contact = st.text_input("Contact in the user agent (mail or web address)", key="crawl-contact")
        resolve = st.text_area("Resolve (HOST:PORT:ADDRESS[:PORT], one a line)", height=70, key="crawl-resolve")
        private = st.checkbox("Also ask private addresses: an intranet", key="crawl-private")
        sent = st.form_submit_button("Begin", type="primary")
    if not sent:
        return
    if not seeds.split() or not NAME.fullmatch(name.strip()):
        st.error("Say where it begins, and give it a name of small letters, digits, dots and dashes.")
        return
    try:
        given = view.arguments(
            seeds,
            max_pages=int(pages),
            max_hosts=int(hosts),
            delay_s=float(delay),
            contact=contact,
            resolve=resolve,
            allow_private=private,
        )
    except ConfigurationError as error:
        st.error(str(error))
        return
    if frame.told(feed, lambda _: crawls.begin(name.strip(), given), f"The crawl {name} has begun.") is not None:
        st.session_state["crawl-next"] = name.strip()
        st.rerun()


def _addresses(feed: Feed) -> None:
    name = _picked(feed)
    if not name:
        st.info("Nothing was crawled yet. Begin a crawl under Crawls.")
        return
    status = feed.read(("crawl", name), lambda _: crawls.one(name), fresh_s=5.0).value or {"counts": {}, "by_host": {}}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        outcome = st.selectbox("Outcome", ["", *status["counts"]], format_func=_any, key="url-outcome", width=170)
        host = st.selectbox("Host", ["", *status["by_host"]], format_func=_any, key="url-host", width=260)
        text = st.text_input("Address or reason holds", key="url-text", width=260)
        wanted = crawls.Filter(outcome, host, text)
        number = _page_number(feed, name, wanted)
    offset = (number - 1) * PAGE

    def body(found: dict[str, Any]) -> None:
        if not found["rows"]:
            st.info("No address matches the filter.")
            return
        large = st.column_config.TextColumn(width="large")
        config = {"Address": large, "Reason": large}
        frame.frame(view.addresses(found["rows"]), column_config=config, key="addresses", most_rows=20)
        st.caption(f"{offset + 1} to {offset + len(found['rows'])} of {found['count']}.")

    frame.live(
        feed, ("urls", name, wanted, number), lambda _: crawls.page(name, wanted, PAGE, offset), body, every_s=5.0
    )
    st.download_button(
        "Download all as CSV", lambda: crawls.as_csv(name, wanted), f"{name}.csv", "text/csv", on_click="ignore"
    )


def _page_number(feed: Feed, name: str, wanted: crawls.Filter) -> int:
    found = feed.read(("count", name, wanted), lambda _: crawls.page(name, wanted, 0, 0), fresh_s=5.0)
    last = view.pages(found.value["count"] if found.value else 0, PAGE)
    return int(st.number_input(f"Page, of {last}", 1, last, 1, key=f"url-page-{name}-{wanted}", width=130))


def _any(name: str) -> str:
    return name or "all"


def _index(feed: Feed) -> None:
    frame.live(feed, "index", lambda _: crawls.index(), lambda told: _told(feed, told), every_s=3.0)
    found = feed.read("index", lambda _: crawls.index(), fresh_s=3.0).value or {"generations": []}
    rows = found["generations"]
    current = next((place for place, row in enumerate(rows) if row["current"]), None)
    before = rows[current + 1]["name"] if current is not None and current + 1 < len(rows) else ""
    frame.question(
        "roll-back",
        "Roll the index back",
        f"From the next question on, the chatbot answers from {before or 'the generation before'}. "
        "Nothing is removed; the next build makes a newer one.",
        "Roll back",
        lambda: frame.told(feed, lambda _: crawls.roll_back(), "The generation before is current.") is not None,
    )


def _told(feed: Feed, told: dict[str, Any]) -> None:
    rows = told["generations"]
    if rows:
        numbers = {"Pages", "Chunks", "Chunks a page", "Answers from score", "Off-topic cosine"}
        columns = [Column(name, number=name in numbers) for name in view.GENERATIONS]
        st.html(markup.table(columns, view.generations(rows)))
    else:
        st.info(NO_INDEX)
    if told["builds"]:
        st.html(markup.items([("busy", "The index is being built.", told["said"])]))
    elif told["said"]:
        st.caption(f"The last build begun here said: {told['said']}")
    with st.container(horizontal=True, vertical_alignment="center"):
        shrink = st.checkbox("Also when more than half of the chunks have gone", key="build-shrink")
        if st.button("Build from all crawls", key="build", disabled=told["builds"]):
            _done(feed, lambda _: crawls.build((), shrink), "The build has begun.")
        if st.button("Roll back", key="roll-back", disabled=not _can_roll_back(rows)):
            frame.ask("roll-back")
            st.rerun(scope="app")
    if told["quality"]:
        st.subheader("What the last build found out", anchor=False)
        columns = [Column("Of the pages"), Column("Number", number=True), Column("", long=True)]
        st.html(markup.table(columns, view.quality(told["quality"])))


def _can_roll_back(rows: list[dict[str, Any]]) -> bool:
    """Is there one before the current generation? The latest stands first."""
    return any(row["current"] for row in rows[:-1])
