"""What the gateway's workflows report, in words. Pure."""

import html
from collections.abc import Mapping
from typing import Any

from apps.chatbot.texts import Texts
from apps.chatbot.view import View


def steps(view: View, say: Texts) -> str:
    if not view.steps:
        return ""
    rows = [row for step in view.steps if (row := _step(step.data, say))]
    long = any(step.kind in ("split", "note") for step in view.steps)
    name, last = say("long_steps" if long else "steps"), rows[-1] if rows else ""
    listed = "".join(f"<li>{html.escape(row)}</li>" for row in rows)
    is_open = "" if view.ended else " open"
    return f'<details class="steps"{is_open}><summary>{name}: {html.escape(last)}</summary><ol>{listed}</ol></details>'


def _step(data: Mapping[str, Any], say: Texts) -> str:
    """A workflow's event in a line."""
    match data.get("step"):
        case "draft":
            return say("step_draft")
        case "judged":
            finding = data.get("finding") or {}
            kind = {"True": "step_violated", "False": "step_kept"}.get(str(finding.get("violated")), "step_unjudged")
            return say(kind, law=finding.get("law", ""), reason=finding.get("reason") or "").strip()
        case "revision":
            return say("step_revision", round=data.get("round", ""))
        case "verdict":
            if data.get("bypassed"):
                return say("step_bypassed")
            return say("step_accepted" if data.get("accepted") else "step_rejected")
        case "split":
            return say("step_split", chunks=data.get("chunks"))
        case "note":
            return say("step_note", n=int(data.get("index") or 0) + 1, chunks=data.get("chunks"))
        case "answer":
            return say("step_bypassed") if data.get("bypassed") else say("step_whole")
    return ""
