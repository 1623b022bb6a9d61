"""Which passage bears out which sentence: citations corrected and added, sentences without support found. Pure.

A sentence is borne out by a passage that holds most of its words and all of its numbers. Between languages words cannot
be compared, so there the numbers decide alone, and a sentence without any is left as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag.answer.sentences import sentences
from rag.answer.states import Citation, Language
from rag.answer.terms import covered, is_term, numbers, same, stem, terms, words
from rag.dates import Day, days
from rag.retrieve.passage import Passage

CITED = re.compile(r"\s*[\[【]\s*(\d{1,3}(?:\s*[,;&]\s*\d{1,3})*)\s*[\]】]")
_UNFINISHED = re.compile(r"\s*[\[【][\d\s,;&]*$")
ENOUGH = 0.5
ENOUGH_TO_ADD = 0.6
FEWEST_TERMS = 3
# An answer that says that the pages do not say it needs no page that says so.
_NOT_KNOWN = re.compile(
    r"\b(?:nicht (?:in den|aus den|angegeben|erwähnt|genannt|enthalten)|keine (?:information|angabe|auskunft)"
    r"|weiß ich nicht|not (?:mention|state|specif|say|contain|answer|provid)|no information|do(?:es)? not know"
    r"|don't know|couldn't find)",
    re.I,
)


@dataclass(frozen=True)
class Checked:
    text: str
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]


def only_supplied(text: str, supplied: int, finished: bool = True) -> str:
    """The text with `[n]` for supplied passages only; a list in one bracket becomes one bracket each."""
    if not finished:
        text = _UNFINISHED.sub("", text)

    def kept(found: re.Match[str]) -> str:
        given = [int(number) for number in re.findall(r"\d+", found[1])]
        good = dict.fromkeys(number for number in given if 1 <= number <= supplied)
        return f" {''.join(f'[{number}]' for number in good)}" if good else ""

    text = CITED.sub(kept, text)
    # What stood around a bracket that went may now be one.
    while any(not 1 <= int(number) <= supplied for one in CITED.findall(text) for number in re.findall(r"\d+", one)):
        text = CITED.sub(kept, text)
    return text


def check(text: str, passages: Sequence[Passage], language: Language) -> Checked:
    """An answer's sentences against the passages that it was made from."""
    text = only_supplied(text, len(passages)).strip()
    sources = [_Source(passage, language) for passage in passages]
    unsupported: list[str] = []
    used: dict[int, set[str]] = {}
    for sentence in sentences(text):
        bare = CITED.sub("", sentence)
        cited = [int(number) for found in CITED.findall(sentence) for number in re.findall(r"\d+", found)]
        numbers_of, supported = _sources_of(bare, cited, sources)
        new = _with_citations(sentence, bare, numbers_of) if numbers_of != cited else sentence
        text = text.replace(sentence, new, 1)
        if not supported:
            unsupported.append(new)
        for number in numbers_of:
            used.setdefault(number, set()).update(terms(bare))
    citations = [Citation(n, passages[n - 1], marks(passages[n - 1].text, used[n])) for n in sorted(used)]
    return Checked(text, tuple(citations), tuple(unsupported))


class _Source:
    def __init__(self, passage: Passage, language: Language) -> None:
        whole = passage.whole
        self.terms, self.numbers, self.days = set(terms(whole)), numbers(whole), days(whole)
        self.same_language = passage.language in ("", language)

    def bears_out(self, wanted: set[str], figures: set[str], named: set[Day]) -> float:
        """The share of a sentence's terms that stand here; 0 where one of its numbers or dates does not."""
        if any(figure not in self.numbers and not _within(figure, self.numbers) for figure in figures):
            return 0.0
        if not all(self._dates(day) for day in named):
            return 0.0
        if not self.same_language:
            return ENOUGH_TO_ADD if any(_tells(figure) for figure in figures) else ENOUGH if figures else 0.0
        return len(covered(wanted, self.terms)) / max(1, len(wanted))

    def _dates(self, named: Day) -> bool:
        """15 January may stand as such or, after 15 and January were both met elsewhere, may be made up."""
        day, month, year = named
        if f"{day}.{month}" in self.numbers or f"{day:02}.{month:02}" in self.numbers:
            return True
        return any((day, month) == (d, m) and (year is None or y in (None, year)) for d, m, y in self.days)


def _sources_of(bare: str, cited: list[int], sources: Sequence[_Source]) -> tuple[list[int], bool]:
    """The passages to be named after a sentence, and whether it needs no warning."""
    wanted, figures = set(terms(bare)), numbers(bare)
    if len(wanted) < FEWEST_TERMS or bare.rstrip().endswith("?") or _NOT_KNOWN.search(bare):
        return cited, True
    named = days(bare)
    shares = {number: source.bears_out(wanted, figures, named) for number, source in enumerate(sources, start=1)}
    good = [number for number in cited if shares[number] >= ENOUGH]
    if good:
        return good, True
    best = max(shares, key=lambda number: shares[number], default=0)
    if best and shares[best] >= ENOUGH_TO_ADD:
        return [best], True
    comparable = any(sources[n - 1].same_language for n in cited) if cited else any(s.same_language for s in sources)
    return cited, not comparable and not figures


def _with_citations(sentence: str, bare: str, cited: Sequence[int]) -> str:
    """The sentence with these numbers before its last full stop, or at its end."""
    del sentence
    named = "".join(f"[{number}]" for number in cited)
    end = re.search(r"[.!?…:]*\s*$", bare)
    at = end.start() if end else len(bare)
    return f"{bare[:at].rstrip()} {named}{bare[at:].rstrip()}" if named else bare


def _tells(figure: str) -> bool:
    """A date, a time or an amount, that hardly stands in a passage by chance."""
    return sum(character.isdigit() for character in figure) >= 3


def _within(figure: str, there: set[str]) -> bool:
    """`8` for `8:00`, `15.7` for `15.07.2026`: a part of one of the passage's numbers."""
    plain = figure.replace(",", ".").lstrip("0")
    parts = {part.lstrip("0") for other in there for part in re.split(r"[.,:/]", other)}
    whole = {other.replace(",", ".").lstrip("0") for other in there}
    pieces = [piece.lstrip("0") for piece in re.split(r"[.,:/]", figure)]
    return plain in whole | parts or (len(pieces) > 1 and all(piece in parts or not piece for piece in pieces))


def marks(text: str, used: set[str]) -> tuple[tuple[int, int], ...]:
    """Where words of the answer stand in a passage."""
    return tuple(
        (begin, end)
        for word, begin, end in words(text)
        if is_term(word) and any(same(stem(word), term) for term in used)
    )
