"""What of a passage may be out of date: a deadline or a semester that has passed, or an old page. Pure."""

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from rag.answer.states import Citation, Flag
from rag.dates import written

OLD = timedelta(days=548)
_SEMESTER = re.compile(
    r"\b(winter|sommer|summer|ws|wise|ss|sose)(?:[\s-]?(?:semester|term))?\s*(20\d\d)(?:\s?[/–-]\s?(?:20)?(\d\d))?\b",
    re.I,
)
_ENDS = re.compile(
    r"frist|stichtag|bis (?:zum|spätestens)|spätestens|rückmeld|bewerb|anmeld|einschreib|beantrag|einreich|zeitraum"
    r"|deadline|until|\bby\b|no later|due|regist|apply|application|enrol|submi|period|closes|schließt|endet|ends",
    re.I,
)


def semesters(text: str) -> Iterator[tuple[date, str]]:
    """Each semester with its last day: 14 March after a winter, 30 September of a summer, as in Bavaria."""
    for found in _SEMESTER.finditer(text):
        winter = found[1].lower() in ("winter", "ws", "wise")
        year = int(found[2])
        yield (date(year + 1, 3, 14) if winter else date(year, 9, 30)), found[0]


def flags(citations: Sequence[Citation], today: date) -> tuple[Flag, ...]:
    """At most one for each cited passage, the weightiest: a deadline, then a semester, then the page's own age."""
    found = (_flag(citation, today) for citation in citations)
    return tuple(flag for flag in found if flag)


def _flag(citation: Citation, today: date) -> Flag | None:
    passage, number = citation.passage, citation.number
    ends = [(one.date, one.words) for one in written(passage.text) if one.date and _is_an_end(passage.text, one.begin)]
    if ends and max(ends)[0] < today:
        return Flag("deadline", number, max(ends)[1], max(ends)[0])
    named = list(semesters(passage.whole))
    if named and max(named)[0] < today:
        return Flag("semester", number, max(named)[1], max(named)[0])
    if passage.date and today - passage.date > OLD:
        return Flag("old", number, passage.title, passage.date)
    return None


def _is_an_end(text: str, at: int) -> bool:
    """Do the words around a date make it one by which something must be done?"""
    begin = max(text.rfind("\n", 0, at), at - 160, 0)
    return bool(_ENDS.search(text[begin : at + 60]))
