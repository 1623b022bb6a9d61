"""A text in sentences that does not break at `z. B.` or `15. Juli`. Pure."""

import re

_ABBREVIATIONS = """
z b d h u a o ä i d r bzw ca nr prof dr dipl ing str tel evtl ggf inkl max min mio std usw vgl abs art bspw hr fr st
co e g i e etc vs mr mrs ms approx dept fig eq sek wiss
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
END = re.compile(r"([.!?…]+[\"'”“»)\]]*(?:\s*\[\d+(?:\s*,\s*\d+)*\])*)(\s+)(?=[\"'„“«(\[*_]*[^\W_a-zäöüß])")
BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+|^\s*#{1,6}\s+|^\s*>\s?")


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown text as they stand in it, without the marks of lists, headings and quotations."""
    found = []
    for line in text.splitlines():
        bare = BULLET.sub("", line).strip()
        if bare and not set(bare) <= set("-=*_|: "):
            found += _of_line(bare)
    return found


def _of_line(line: str) -> list[str]:
    parts, begin = [], 0
    for end in END.finditer(line):
        if not _goes_on(line[begin : end.start()], end[1]):
            parts.append(line[begin : end.end(1)].strip())
            begin = end.end(2)
    return [part for part in (*parts, line[begin:].strip()) if part]


def _goes_on(before: str, mark: str) -> bool:
    """Is this full stop part of an abbreviation or of an ordinal?"""
    if not mark.startswith(".") or len(mark.strip()) > 1:
        return False
    last = re.search(r"(?:(?P<ordinal>(?<![\d:.,])\d{1,2})|(?P<word>[^\W\d]+))$", before)
    return bool(last and (last["ordinal"] or last["word"].lower() in ABBREVIATIONS))
