"""Who is at the console: a key of the gateway, kept in this session of the browser's tab alone, never in an address."""

import os
from dataclasses import dataclass
from typing import Any

import streamlit as st

from apps.console.feed import Feed
from apps.console.theme import CSS
from engine.client import EngineClient
from engine.errors import AccessDenied, EngineError

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Who:
    """The key that logged in."""

    id: str
    name: str
    role: str

    @property
    def admin(self) -> bool:
        return self.role == "admin"


def who() -> Who | None:
    found: Who | None = st.session_state.get("who")
    return found


def feed() -> Feed:
    found: Feed = st.session_state["feed"]
    return found


def connect(key: str) -> EngineClient:
    return EngineClient(os.environ.get("ENGINE_URL", "http://127.0.0.1:8000"), key, timeout_s=TIMEOUT_S)


def enter(client: Any) -> Who:
    """Logs in with a client's key; raises what the gateway raises."""
    told = client.whoami()
    found = Who(told["id"], told["name"], told["role"])
    st.session_state["who"], st.session_state["feed"] = found, Feed(client)
    return found


def leave(why: str = "") -> None:
    for name in ("who", "feed"):
        st.session_state.pop(name, None)
    st.session_state["left"] = why


def ask_for_key() -> None:
    """The screen of those who are not logged in."""
    st.html(CSS)
    _, middle, _ = st.columns([1, 2, 1])
    with middle:
        st.title("Console", anchor=False)
        st.write("Log in with a key of this gateway. An admin's key opens everything, a user's its own usage.")
        if why := st.session_state.get("left"):
            st.warning(why)
        with st.form("login", border=False):
            key = st.text_input("Key", type="password", placeholder="sk-engine-…", autocomplete="current-password")
            sent = st.form_submit_button("Log in", type="primary")
        st.caption(
            "`engine keys create --name YOU --role admin` makes a key. "
            "It is kept until this tab is closed or loaded anew."
        )
        if sent:
            _try(key.strip())


def _try(key: str) -> None:
    if not key:
        st.error("Type a key first.")
        return
    try:
        enter(st.session_state.get("connect", connect)(key))
    except AccessDenied:
        st.error("This key is unknown or revoked.")
    except EngineError as error:
        st.error(f"The gateway does not answer: {error}")
    else:
        st.session_state.pop("left", None)
        st.rerun()
