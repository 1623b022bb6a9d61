"""Words to search terms: snowball stems of German and English, and the character 4-grams of words, for compounds."""

import re
import threading
import unicodedata
from functools import lru_cache
from typing import Any

GRAM = 4
# So long a word may be a compound, or hold one's part.
_LEAST_LETTERS = 5
_WORD = re.compile(r"[^\W_]+(?:[-'’&/][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
STOP = frozenset(
    re.findall(
        r"\w+",
        """aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist da damit dann das
        dass dein deine dem den denn der des dessen dich die dies diese diesem diesen dieser dieses dir
        doch du durch ein eine einem einen einer eines er es etwas euch euer eure fuer gegen gibt hab
        habe haben hat hatte hier ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja kann
        kannst koennen man mein meine meinem meinen meiner mich mir mit muss muessen nach nicht noch nur
        ob oder ohne sehr sein seine sich sie sind so soll ueber um und uns unser unter vom von vor wann
        war was welche welchem welchen welcher welches wenn wer werde werden wie wieso will wir wird wo
        woher wohin wurde zu zum zur a about after all am an and any are as at be because been before
        being but by can could did do does doing for from get had has have having he her here hers him
        his how i if in into is it its just me my no not of off on once or our out own she should so
        some such than that the their them then there these they this those through to too until up us
        was we were what when where which while who whom why will with would you your""",
    )
)


def words_of(text: str) -> list[str]:
    """Lower-case words, umlauts spelled out (people type both); of "E-Mail-Adresse" the whole and its parts."""
    words: list[str] = []
    for match in _WORD.finditer(folded(text)):
        whole = match[0]
        parts = _PART.findall(whole)
        words += parts
        if len(parts) > 1 and len(whole) < 40:
            words.append("".join(parts))
    return words


def folded(text: str) -> str:
    lowered = unicodedata.normalize("NFC", text).lower().translate(_UMLAUTS)
    return "".join(letter for letter in unicodedata.normalize("NFD", lowered) if not unicodedata.combining(letter))


@lru_cache(maxsize=200_000)
def terms_of(word: str, language: str) -> tuple[str, ...]:
    """A folded word's terms: its stem, and the 4-grams of a longer word, marked so that they are no stems."""
    if word in STOP:
        return ()
    stem = _stem(word, language)
    return (stem, *grams_of(word))


def grams_of(word: str) -> tuple[str, ...]:
    if len(word) < _LEAST_LETTERS or not word.isalpha():
        return ()
    return tuple(f"~{word[start : start + GRAM]}" for start in range(len(word) - GRAM + 1))


def is_gram(term: str) -> bool:
    return term.startswith("~")


_stemming = threading.local()


def _stem(word: str, language: str) -> str:
    stemmers: dict[str, Any] = _stemming.__dict__
    if language not in stemmers:
        import snowballstemmer

        stemmers[language] = snowballstemmer.stemmer("english" if language == "en" else "german")
    return str(stemmers[language].stemWord(word))
