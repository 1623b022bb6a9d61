"""Words that carry meaning, by their stems, in German and English. Pure."""

import functools
import re
from collections.abc import Iterator
from typing import Any

WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")

_GERMAN = """
aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist brauche braucht da dabei damit
dann darf das dass dein dem den denn der des dich die dies diese diesem diesen dieser dieses dir doch dort du durch
ein eine einem einen einer eines er es etwas euch euer für gegen geht genau gibt habe haben hat hätte hier ich ihm ihn
ihnen ihr ihre im in ins ist ja jede jedem jeden jeder jedes kann kannst kein keine können könnte man mehr mein meine
meinem meinen meiner mich mir mit muss müssen nach nicht noch nur ob oder ohne schon sehr sein seine sich sie sind so
soll sollte über um und uns unser unter viel vom von vor wann war warum was weil welche welchem welchen welcher
welches wem wen wenn wer werde werden wie wieder will wir wird wo woher wohin wurde zu zum zur zwischen bitte danke
mal gerne möchte
"""
_ENGLISH = """
a about after all also am an and any are as at be been before being but by can could did do does doing for from get
had has have having he her here hers him his how i if in into is it its just me more most my myself no not of off on
once only or other our ours out over own please same she should so some such than that the their them then there these
they this those to too under until up very was we were what when where which while who whom whose why will with would
you your yours much many need want
"""
STOP_WORDS: dict[str, frozenset[str]] = {
    "de": frozenset(_GERMAN.split()),
    "en": frozenset(_ENGLISH.split()),
}
ALL_STOP_WORDS = STOP_WORDS["de"] | STOP_WORDS["en"]


def words(text: str) -> Iterator[tuple[str, int, int]]:
    """Each word or number with where it begins and ends."""
    for found in WORD.finditer(text):
        yield found[0], found.start(), found.end()


def terms(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order, each as often as it stands there."""
    return [stem(word) for word, _, _ in words(text) if is_term(word)]


def is_term(word: str) -> bool:
    return re.split("['’]", word.lower())[0] not in ALL_STOP_WORDS and (len(word) > 1 or word.isdigit())


@functools.lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """One stem for a word's forms in either language: the shorter of both stemmers' answers."""
    lower = word.lower().replace("’", "'").removesuffix("'s")
    return min((str(one.stemWord(lower)) for one in _stemmers()), key=len)


@functools.cache
def _stemmers() -> tuple[Any, ...]:
    import snowballstemmer

    return tuple(snowballstemmer.stemmer(name) for name in ("german", "english"))


def same(one: str, other: str) -> bool:
    """Two stems mean the same where one begins the other: German compounds begin with what they are about."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    return len(short) >= 5 and (long.startswith(short) or long.endswith(short))


def covered(wanted: set[str], there: set[str]) -> set[str]:
    """Those of `wanted` that are `there`, compounds included."""
    found = wanted & there
    return found | {term for term in wanted - found if any(same(term, other) for other in there)}


def numbers(text: str) -> set[str]:
    """Numbers as they stand: `15.07.2026`, `8:00`, `72,50`."""
    return {found.rstrip(".,:/") for found in NUMBER.findall(text)}
