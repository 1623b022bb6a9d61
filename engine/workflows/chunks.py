"""Where a long text may be cut: at headings, paragraphs and sentences, at words only within a sentence (pure)."""

import re
from collections.abc import Iterator
from enum import IntEnum


class Strength(IntEnum):
    """How good a place is to cut at; the higher the better."""

    CHARACTER = 0
    WORD = 1
    SENTENCE = 2
    PARAGRAPH = 3
    HEADING = 4


# A place stronger than a sentence's end is preferred if it comes after this share of what would fit.
EARLIEST = 0.5
PARAGRAPH = re.compile(r"\n[ \t]*\r?\n\s*")
HEADING = re.compile(r"(?:#{1,6} |<h[1-6]|(?:Kapitel|Abschnitt|Teil|Chapter|Section|Part|§) ?\d)")
LINE_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*•+–|]|\d{1,3}[.)]|[a-z]\))[ \t]|#{1,6} )")
# Punctuation, closing quotes or brackets, a space; or the full stops of Chinese and Japanese, which need none.
SENTENCE = re.compile(r"""(?:(?<![.!?…])[.!?…]++["'»”’“‘)\]]*+\s+|[。！？]+[」』）]*\s*)""")
LAST_WORD = re.compile(r"[\w.&-]*\Z")
SPACE = re.compile(r"\s+")
# Words that end with a full stop inside of sentences. An end of a sentence that is missed only makes a piece longer.
# fmt: off
ABBREVIATIONS = frozenset({
    "abb", "abs", "abt", "allg", "anm", "anl", "art", "aufl", "ausg", "bd", "begr", "betr", "bez", "bspw", "bzgl",
    "bzw", "ca", "dipl", "dr", "engl", "evtl", "exkl", "etc", "ff", "frz", "geb", "gegr", "gem", "ggf", "ggfs", "hl",
    "hr", "hrsg", "inkl", "ing", "insb", "jan", "feb", "mär", "apr", "jun", "jul", "aug", "sep", "sept", "okt",
    "nov", "dez", "jh", "kap", "lat", "lfd", "lt", "max", "min", "mind", "mio", "mrd", "mr", "mrs", "ms", "mwst",
    "nr", "nrn", "prof", "rd", "rel", "resp", "sog", "st", "std", "str", "stv", "tab", "tel", "tsd", "usf", "usw",
    "vgl", "verf", "vs", "vol", "wg", "zzgl", "zit", "ziff", "al", "approx", "assn", "ave", "co", "corp", "dec",
    "dept", "ed", "eds", "eq", "esp", "est", "fig", "figs", "gen", "gov", "inc", "jr", "ltd", "oct", "op", "pp",
    "prop", "ref", "refs", "rep", "rev", "sec", "sen", "sr", "univ", "viz",
})
# fmt: on
ROMAN = re.compile(r"[IVXLCDM]+\Z")
NUMBER = re.compile(r"\d{1,3}\Z")


def boundaries(text: str, start: int, end: int) -> Iterator[tuple[int, Strength]]:
    """Places in text[start:end], after the start, where a new sentence, paragraph or heading begins; not in order."""
    for match in PARAGRAPH.finditer(text, start, end):
        if match.end() < len(text):
            yield match.end(), Strength.HEADING if HEADING.match(text, match.end()) else Strength.PARAGRAPH
    for match in LINE_ITEM.finditer(text, start, end):
        yield match.end(), Strength.HEADING if HEADING.match(text, match.end()) else Strength.SENTENCE
    for match in SENTENCE.finditer(text, start, end):
        if match.end() < len(text) and _ends_sentence(text, start, match):
            yield match.end(), Strength.SENTENCE


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    following = text[match.end()]
    if not match[0].startswith("."):
        return not following.islower()
    if following.islower() or (match[0].startswith("..") and not following.isupper()):
        return False
    found = LAST_WORD.search(text, max(start, match.start() - 40), match.start())
    word = found[0] if found else ""
    last = word.rpartition(".")[2]
    if (len(last) == 1 and last.isalpha()) or word.lower() in ABBREVIATIONS or last.lower() in ABBREVIATIONS:
        return False
    # "15. Juli", "3. Semester", "XIV. Jahrhundert": German ordinals.
    return not (NUMBER.match(last) or ROMAN.match(last))


def sentences(text: str) -> list[str]:
    """The text in sentences, each with the space after it; joined they are the text."""
    ends = sorted({place for place, _ in boundaries(text, 0, len(text))} - {0})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if a < b]


def sentence_end(text: str, start: int, least: int, most: int) -> int | None:
    """Where the sentence ends that reaches over `least`, if it does so at or before `most`."""
    # An end at `least` itself is seen from a little before it.
    begin = max(start, least - 100)
    places = [place for place, _ in boundaries(text, begin, min(most + 1, len(text))) if least <= place <= most]
    return min(places) if places else len(text) if len(text) <= most else None


def cut(text: str, start: int, most: int) -> tuple[int, Strength]:
    """The best place to end a piece that begins at `start` and ends at or before `most`, and how good it is.

    The last heading, paragraph or sentence in the later half of what would fit, in this order; else the last sentence
    before; else the last word; else `most`. Always after `start`.
    """
    if len(text) <= most:
        return len(text), Strength.HEADING
    found = [(place, strength) for place, strength in boundaries(text, start, most + 1) if start < place <= most]
    earliest = start + (most - start) * EARLIEST
    late = [(strength, place) for place, strength in found if place >= earliest]
    if late:
        strength, place = max(late)
        return place, strength
    if found:
        return max(found)
    words = [match.end() for match in SPACE.finditer(text, start, most) if match.end() > start]
    inside = [place for place in words if text[start:place].strip()]
    if inside:
        return inside[-1], Strength.WORD
    return max(most, start + 1), Strength.CHARACTER


def overlap_start(text: str, start: int, length: int, earliest: int) -> int:
    """Where a piece that begins at `start` begins with about `length` characters of what was before it.

    At a sentence where there is one in reach, else at a word; never before `earliest`.
    """
    least = max(earliest, start - length)
    if least >= start:
        return start
    places = [place for place, _ in boundaries(text, earliest, start) if least <= place < start]
    if least == earliest:
        places.append(earliest)
    if places:
        return min(places)
    word = SPACE.search(text, least, start)
    return word.end() if word else start
