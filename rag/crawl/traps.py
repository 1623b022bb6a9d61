"""Addresses without end: calendars, parameter mazes, paths that repeat themselves; and what is not worth a request."""

import re
from collections import Counter
from urllib.parse import parse_qsl, urlsplit

LONGEST_ADDRESS = 2000
DEEPEST_PATH = 15
SEGMENT_REPEATS = 3
VARIANTS_OF_A_PATH = 30
DATES_OF_A_KIND = 24

# They name a page, as `index.php?id=12` does, rather than a view of it.
IDENTITY = {"id", "uid", "pid", "page_id", "article", "node", "l", "lang", "language"}
YEAR_AND_MONTH = re.compile(r"(?<!\d)(19|20)\d\d[-/._]?(0[1-9]|1[0-2]|[1-9](?!\d))")
DATE_PARAMETER = re.compile(
    r"(?:^|[\[_-])(date|day|month|year|week|datum|tag|monat|jahr|woche|from|to|start|end|cal(?:endar)?date)\]?$",
    re.IGNORECASE,
)
PRINT_PATH = re.compile(r"/(print|druckansicht|druckversion|printview)(/|\.html?$|$)", re.IGNORECASE)
PRINT_QUERY = {("print", "1"), ("print", "true"), ("type", "98"), ("view", "print"), ("printable", "yes")}
OTHER_FILES = re.compile(
    r"\.(jpe?g|png|gif|webp|svg|ico|bmp|tiff?|heic|mp[34]|m4[av]|avi|mov|webm|ogg|wav|zip|gz|tgz|rar|7z|exe|dmg|iso|css|"
    r"js|json|xml|rss|atom|ics|vcf|docx?|xlsx?|pptx?|od[tsp]|epub|eps|csv|txt|woff2?|ttf|apk)$",
    re.IGNORECASE,
)


def file_type_refusal(url: str) -> str:
    """Why an address is not asked for because of how it ends; empty when it is."""
    found = OTHER_FILES.search(urlsplit(url).path)
    return f"ends in {found[0].lower()}" if found else ""


class Traps:
    """Counts the addresses that a crawl has taken up, so that it sees when a pattern goes on for ever."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def refusal(self, url: str) -> str:
        """Why an address looks like a trap; empty when it does not. It is counted only by `count`."""
        if len(url) > LONGEST_ADDRESS:
            return f"longer than {LONGEST_ADDRESS} characters"
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        if PRINT_PATH.search(parts.path) or PRINT_QUERY & {(name.lower(), value.lower()) for name, value in pairs}:
            return "print view"
        return _path_refusal(parts.path) or next(filter(None, map(self._pattern_refusal, _patterns(url))), "")

    def count(self, url: str) -> None:
        self._counts.update(name for name, _, _ in _patterns(url))

    def _pattern_refusal(self, pattern: tuple[str, int, str]) -> str:
        name, most, words = pattern
        return f"more than {most} {words}" if self._counts[name] >= most else ""


def _path_refusal(path: str) -> str:
    segments = [segment for segment in path.split("/") if segment]
    if len(segments) > DEEPEST_PATH:
        return f"deeper than {DEEPEST_PATH} folders"
    often = [segment for segment, times in Counter(segments).items() if times >= SEGMENT_REPEATS]
    return f"{often[0]!r} comes {SEGMENT_REPEATS} times in the path" if often else ""


def _patterns(url: str) -> list[tuple[str, int, str]]:
    """The patterns that an address belongs to: name, how many addresses may share it, and what it is called."""
    parts = urlsplit(url)
    place = f"{parts.netloc}{parts.path}"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    found = []
    if any(name.lower() not in IDENTITY for name, _ in pairs):
        identity = sorted(pair for pair in pairs if pair[0].lower() in IDENTITY)
        found.append((f"variants {place} {identity}", VARIANTS_OF_A_PATH, "variants of one path by parameters"))
    if YEAR_AND_MONTH.search(parts.path) or any(_is_date(name, value) for name, value in pairs):
        kind = re.sub(r"\d+", "0", f"{place}?{parts.query}")
        found.append((f"dates {kind}", DATES_OF_A_KIND, "addresses that differ by a date"))
    return found


def _is_date(name: str, value: str) -> bool:
    return bool(YEAR_AND_MONTH.search(value) or (DATE_PARAMETER.search(name) and re.fullmatch(r"[\d.:/-]+", value)))
