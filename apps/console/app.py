"""What Streamlit runs: logs in, then shows the screens that the key may see."""

from collections.abc import Callable
from importlib import import_module

import streamlit as st

from apps.console import frame, login
from apps.console.screens import SCREENS, Screen


def main() -> None:
    st.set_page_config(page_title="Console", layout="wide", initial_sidebar_state="auto")
    known = login.who()
    if known is not None and login.feed().denied:
        login.leave(f"Logged out: {login.feed().denied}")
        known = None
    if known is None:
        # At the address of every screen, so that a link or a reload leads there after the login.
        places = [_page(screen, login.ask_for_key, default=screen is SCREENS[0]) for screen in SCREENS]
        st.navigation(places, position="hidden").run()
        return
    shown = [screen for screen in SCREENS if known.admin or screen.for_users]
    pages: dict[str, list[st.Page]] = {}
    for screen in shown:
        pages.setdefault(screen.section, []).append(_page(screen, _draw(screen), default=screen is shown[0]))
    st.session_state["pages"] = {page.url_path or shown[0].path: page for each in pages.values() for page in each}
    chosen = st.navigation(pages)
    with st.sidebar:
        st.caption(f"{known.name} ({known.role})")
        if st.button("Log out", width="stretch"):
            login.leave()
            st.rerun()
    frame.say_what_was_done()
    chosen.run()


def _page(screen: Screen, draw: Callable[[], None], default: bool) -> "st.Page":
    return st.Page(draw, title=screen.title, url_path=screen.path, default=default)


def _draw(screen: Screen) -> Callable[[], None]:
    def draw() -> None:
        # Its module is loaded when it is first looked at.
        import_module(screen.module).draw(login.feed())

    return draw


main()
