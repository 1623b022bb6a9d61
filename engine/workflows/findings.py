"""What a judge finds, and how it is read out of whatever the judge says."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("none", "low", "medium", "high")
LONGEST = 2000
# A judge's answer beyond this, and braces that open nothing, are not searched: each costs time on the caller's loop.
LONGEST_ANSWER, MOST_BRACES = 20_000, 200
# The reason stands first, for a model judges better when it has written down why.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 300},
        "violated": {"type": "boolean"},
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "fix": {"type": "string", "maxLength": 300},
    },
    "required": ["reason", "violated", "severity", "fix"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "finding", "strict": True, "schema": SCHEMA}}

YES = frozenset({"true", "yes", "ja", "wahr", "1", "violated", "verletzt"})
NO = frozenset({"false", "no", "nein", "falsch", "0", "not violated", "nicht verletzt", "none"})
THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)|\A.*</think>", re.DOTALL | re.IGNORECASE)
FIELD = re.compile(r"""\b(?:violated|violation|verletzt)\b[\s"'*]*[:=][\s"'*]*([a-z]+)""", re.IGNORECASE)
REASON = re.compile(r"""["']?\b(?:reason|grund)\b["']?\s*[:=]\s*["']?([^"\n}]+)""", re.IGNORECASE)
OPENING = re.compile(
    r"[\s*_#>-]*(yes|no|ja|nein|not violated|nicht verletzt|violated|verletzt)\b(?!\s*(?:or|oder|/)\s*(?:no|nein)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """`violated` is None where the judge gave no judgement that could be read; `reason` then says why."""

    law: str
    violated: bool | None
    severity: str
    reason: str
    fix: str = ""
    judge: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def no_judgement(law: str, judge: str, why: str) -> Finding:
    return Finding(law, None, "none", f"no judgement: {why}"[:LONGEST], "", judge)


def parse(text: str, law: str, judge: str) -> Finding | None:
    """The finding in an answer: JSON, bare, fenced or with text around it, broken JSON, or a yes or no at its start.

    None where it holds none of these. Of several findings the last counts, for a judge may quote before it judges.
    """
    text = THOUGHTS.sub("", text[-LONGEST_ANSWER:]).strip()
    found = [finding for table in _objects(text) if (finding := _finding(table, law, judge))]
    return found[-1] if found else _by_words(text, law, judge)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at, failed = json.JSONDecoder(strict=False), text.find("{"), 0
    while at >= 0 and failed < MOST_BRACES:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at, failed = text.find("{", at + 1), failed + 1
            continue
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def _finding(table: dict[str, Any], law: str, judge: str) -> Finding | None:
    fields = {str(name).lower(): value for name, value in table.items()}
    violated = _truth(next((fields[name] for name in ("violated", "violation", "verletzt") if name in fields), None))
    if violated is None:
        return None
    return _made(law, judge, violated, fields.get("severity"), fields.get("reason"), fields.get("fix"))


def _truth(value: Any) -> bool | None:
    word = str(value).strip().lower().strip(".!")
    return True if word in YES else False if word in NO and value is not None else None


def _made(law: str, judge: str, violated: bool, severity: Any, reason: Any, fix: Any) -> Finding:
    told = str(severity).lower()
    severity = (told if told in SEVERITIES[1:] else "medium") if violated else "none"
    words = [str(part).strip()[:LONGEST] if part is not None else "" for part in (reason, fix)]
    return Finding(law, violated, severity, words[0] or "the judge gave no reason", words[1], judge)


def _by_words(text: str, law: str, judge: str) -> Finding | None:
    named = [truth for match in FIELD.finditer(text) if (truth := _truth(match[1])) is not None]
    if named:
        reason = REASON.search(text)
        return _made(law, judge, named[-1], None, reason[1] if reason else None, None)
    opening = OPENING.match(text)
    truth = _truth(opening[1]) if opening else None
    if opening is None or truth is None:
        return None
    return _made(law, judge, truth, None, text[opening.end() :].lstrip(" ,.:;-–—*\n"), None)
