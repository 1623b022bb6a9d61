"""Dates as people and machines write them, and the one that tells when a page was last changed."""

import re
from collections.abc import Iterator
from datetime import date as Date

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("januar", "january", "jan", "jänner"),
            ("februar", "february", "feb"),
            ("märz", "march", "mar", "mär", "maerz"),
            ("april", "apr"),
            ("mai", "may"),
            ("juni", "june", "jun"),
            ("juli", "july", "jul"),
            ("august", "aug"),
            ("september", "sep", "sept"),
            ("oktober", "october", "okt", "oct"),
            ("november", "nov"),
            ("dezember", "december", "dez", "dec"),
        ),
        start=1,
    )
    for name in names
}
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"(?P<y1>\d{{4}})-(?P<m1>\d{{2}})-(?P<d1>\d{{2}})"
    rf"|(?P<d2>\d{{1,2}})\.\s?(?P<m2>\d{{1,2}})\.\s?(?P<y2>\d{{4}})"
    rf"|(?P<d3>\d{{1,2}})(?:\.|st|nd|rd|th)?\s+(?P<m3>{_MONTH})\.?,?\s+(?P<y3>\d{{4}})"
    rf"|(?P<m4>{_MONTH})\.?\s+(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y4>\d{{4}})",
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"(?:\bStand(?:\s+vom)?|(?:zu)?letzte?\s+(?:Änderung|Aktualisierung|geändert|aktualisiert|bearbeitet)"
    r"|geändert am|aktualisiert am|last\s+(?:updated?|modified|changed|revised|edited)|updated on|as of)"
    r"(?:\s+(?:am|on|vom))?\s*:?\s*",
    re.IGNORECASE,
)


def find_dates(text: str) -> Iterator[Date]:
    """All dates with a year in a text, German, English or ISO; impossible ones are passed over."""
    for match in _DATE.finditer(text):
        date = _date(match)
        if date:
            yield date


def first_date(text: str) -> Date | None:
    return next(find_dates(text), None)


def stated_change(text: str) -> Date | None:
    """The date that follows "Stand:", "Last updated" or the like; the last such mention wins, as footers come last."""
    found = None
    for label in _CHANGED.finditer(text):
        match = _DATE.match(text, label.end())
        found = (match and _date(match)) or found
    return found


def _date(match: re.Match[str]) -> Date | None:
    parts = match.groupdict()
    for form in "1234":
        if parts[f"d{form}"]:
            month = parts[f"m{form}"]
            number = int(month) if month.isdecimal() else MONTHS[month.lower()]
            try:
                return Date(int(parts[f"y{form}"]), number, int(parts[f"d{form}"]))
            except ValueError:
                return None
    return None
