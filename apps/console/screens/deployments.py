"""Deployments: all of them in a table, and one from near, with what can be done to it."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.screens import one_deployment
from apps.console.views import deployments as view

EMPTY = "No deployments yet. Launch a model from the catalogue: open Launch."


def show(name: str) -> None:
    """Opens this screen on one deployment, from any other."""
    st.session_state["deployment"] = name
    st.switch_page(st.session_state["pages"]["deployments"])


def draw(feed: Feed) -> None:
    frame.begin("Deployments")
    if name := st.session_state.get("deployment"):
        one_deployment.draw(feed, name)
    else:
        frame.live(feed, "deployments", lambda client: client.deployments(), _table, every_s=3.0, empty=EMPTY)


def _table(rows: list[dict[str, Any]]) -> None:
    data = view.rows(rows, datetime.now(UTC))
    config = {
        "Reason": st.column_config.TextColumn(width="large"),
        "Name": st.column_config.TextColumn(pinned=True),
    }
    styled = data.style.map(_colour, subset=["Stage"])
    picked = frame.frame(
        styled, column_config=config, key="deployments", on_select="rerun", selection_mode="single-row", rows=len(data)
    )
    names = list(data["Name"])
    typed = st.selectbox("Open one: select its row, or type its name", names, index=None, key="open", width=420)
    chosen = names[picked.selection.rows[0]] if picked.selection.rows else typed
    if chosen:
        st.session_state["deployment"] = chosen
        st.rerun()


def _colour(stage: str) -> str:
    """Middle tones, which can be read on light and on dark."""
    tone = markup.TONES.get(stage, "idle")
    middle = {"good": "#2f9e68", "busy": "#3c8dc0", "warn": "#b9791a", "bad": "#d9534a", "idle": "#7d8994"}
    return f"color: {middle[tone]}; font-weight: 600"
