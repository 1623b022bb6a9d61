"""Dates as people and machines write them, German, English or ISO, with a year or without. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date as Date

_NAMES = """
Januar Februar März April Mai Juni Juli August September Oktober November Dezember
January February March April May June July August September October November December
"""
NAMES: dict[str, list[str]] = dict(zip(("de", "en"), map(str.split, _NAMES.strip().splitlines()), strict=True))
_SHORT = {"jän": 1, "jänner": 1, "mär": 3, "mrz": 3, "maerz": 3, "sept": 9}
_NUMBER = {name.lower(): number for names in NAMES.values() for number, name in enumerate(names, start=1)}
_NUMBER = {**_NUMBER, **{name[:3]: number for name, number in _NUMBER.items()}, **_SHORT}
_MONTH = "|".join(sorted(_NUMBER, key=len, reverse=True))
_DATE = re.compile(
    rf"\b(?P<y1>\d{{4}})-(?P<m1>\d{{2}})-(?P<d1>\d{{2}})\b"
    rf"|\b(?P<d2>\d{{1,2}})\.\s?(?P<m2>\d{{1,2}})\.(?:\s?(?P<y2>\d{{4}}|\d{{2}})\b)?"
    rf"|\b(?P<d3>\d{{1,2}})(?:\.|st|nd|rd|th)?\s+(?P<m3>{_MONTH})\b\.?(?:,?\s+(?P<y3>\d{{4}})\b)?"
    rf"|\b(?P<m4>{_MONTH})\b\.?\s+(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<y4>\d{{4}})\b)?",
    re.IGNORECASE,
)
_TO = r"\s*(?:-|–|bis(?:\s+zum)?|und|to|until|till|through|and)\s*"
# `1. bis 15. Juli`, `1 July to 15`: a day that takes its month from the date beside it.
_BEFORE = re.compile(rf"\b(\d{{1,2}})(?:\.|st|nd|rd|th)?{_TO}$", re.IGNORECASE)
_AFTER = re.compile(rf"{_TO}(\d{{1,2}})(?:st|nd|rd|th)?\b(?![.:/]?\d|\.?\s*(?:{_MONTH})\b)", re.IGNORECASE)
_CHANGED = re.compile(
    r"(?:\bStand(?:\s+vom)?|(?:zu)?letzte?\s+(?:Änderung|Aktualisierung|geändert|aktualisiert|bearbeitet)"
    r"|geändert am|aktualisiert am|last\s+(?:updated?|modified|changed|revised|edited)|updated on|as of)"
    r"(?:\s+(?:am|on|vom))?\s*:?\s*",
    re.IGNORECASE,
)


# Day, month and year, None where none is told.
Day = tuple[int, int, int | None]


@dataclass(frozen=True)
class Written:
    """A date as it stands in a text, in `words` from character `begin` on; `year` is None where none is told."""

    day: int
    month: int
    year: int | None
    words: str
    begin: int

    @property
    def date(self) -> Date | None:
        return Date(self.year, self.month, self.day) if self.year else None


def written(text: str) -> Iterator[Written]:
    """Every date of a text in order; impossible ones are passed over."""
    for match in _DATE.finditer(text):
        if found := _read(match):
            yield found


def days(text: str) -> set[Day]:
    """Of each date, and of the days that take their month from one beside them."""
    found: set[Day] = set()
    for one in written(text):
        end = one.begin + len(one.words)
        beside = (_BEFORE.search(text, max(0, one.begin - 24), one.begin), _AFTER.match(text, end))
        for day in (one.day, *(int(match[1]) for match in beside if match)):
            found.add((day, one.month, one.year))
    return found


def find_dates(text: str) -> Iterator[Date]:
    """All dates with a year."""
    return (one.date for one in written(text) if one.date)


def first_date(text: str) -> Date | None:
    return next(find_dates(text), None)


def stated_change(text: str) -> Date | None:
    """The date that follows "Stand:", "Last updated" or the like; the last such mention wins, as footers come last."""
    found = None
    for label in _CHANGED.finditer(text):
        match = _DATE.match(text, label.end())
        one = _read(match) if match else None
        found = (one and one.date) or found
    return found


def _read(match: re.Match[str]) -> Written | None:
    form = next(form for form in "1234" if match[f"d{form}"])
    day, month, year = (match[f"{part}{form}"] for part in "dmy")
    number = int(month) if month.isdecimal() else _NUMBER[month.lower()]
    # A name without a year may be a word: `10 may apply`.
    if not year and not month.isdecimal() and month[0].islower():
        return None
    full = int(year) + (2000 if len(year) == 2 else 0) if year else None
    try:
        Date(full or 2024, number, int(day))
    except ValueError:
        return None
    return Written(int(day), number, full, match[0], match.start())
