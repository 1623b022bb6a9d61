"""A follow-up made into a question of its own, from the words of the turns before it. Pure.

`and for the master's?` says nothing to an index. Its missing words are in the last question, less those that it
replaces: who asked about the bachelor's and now names the master's, no longer means the bachelor's.
"""

import re
from collections.abc import Sequence

from rag.answer.states import Past
from rag.answer.terms import covered, is_term, same, stem, terms, words
from rag.retrieve.passage import Passage

# Words that point back, or that begin something which hangs on what was said.
_BEGINS = re.compile(
    r"^\s*(?:(?:und|aber|oder|also|dann|sonst|außerdem|auch|and|but|or|then|so|also|what about|how about|what if"
    r"|same for|wie sieht es|wie ist es|wie steht es|was ist mit|gilt das|geht das|ist das|does that|is that"
    r"|can i do that)\b|…|\.\.\.)",
    re.I,
)
_POINTS = re.compile(
    r"\b(?:dort|dafür|davon|damit|dazu|dabei|darauf|daran|dahin|deren|dessen|denen|ihn|ihm|diese[rnms]?|jene[rnms]?|letztere[rns]?|solche[rns]?"
    r"|it|its|they|them|their|theirs|there|those|these|that one|this one|the same)\b",
    re.I,
)
_SEASONS = (r"winter\w*|ws|wise", r"sommer\w*|summer\w*|ss|sose")
# Of each group a question means one; a follow-up that names another one replaces it.
_GROUPS: tuple[tuple[str, ...], ...] = (
    (r"bachelor\w*|undergraduate\w*", r"master\w*|(?:post)?graduate\w*", r"promotion|doktorand\w*|phd|doctora\w*"),
    _SEASONS,
    (
        *(r"montag\w*|monday\w*", r"dienstag\w*|tuesday\w*", r"mittwoch\w*|wednesday\w*", r"donnerstag\w*|thursday\w*"),
        *(r"freitag\w*|friday\w*", r"samstag\w*|sonnabend\w*|saturday\w*", r"sonntag\w*|sunday\w*"),
        r"wochenende\w*|weekend\w*",
    ),
    (r"vollzeit\w*|full-?time", r"teilzeit\w*|part-?time", r"dual\w*"),
    (r"windows", r"mac\w*|apple", r"linux", r"android", r"iphone|ios|ipad"),
    (r"deutsch\w*|german", r"englisch\w*|english"),
    (
        *(r"erstsemester\w*|first-?years?", r"international\w*|ausländisch\w*", r"gaststud\w*|guest"),
        r"austausch\w*|exchange",
    ),
    (
        *(
            r"telefon\w*|nummer|phone|number",
            r"e-?mail\w*|adresse|address",
            r"öffnungszeit\w*|sprechzeit\w*|opening|hours",
        ),
        r"kost\w*|gebühr\w*|cost\w*|fees?|price",
    ),
)
_LEADING = re.compile(
    r"^(?:(?:the|a|an|one|ones|of|from|eins?|aus|danach|for|in|on|at|to|der|die|das|den|dem|des|ein\w*|für|im|in|am|an|zum|zur|bei|mit|with|about)\s+)+",
    re.I,
)
_YEAR = re.compile(r"(?:19|20)\d\d(?:/\d\d(?:\d\d)?)?")
FEW_TERMS = 2
MOST_TERMS = 14
SHORTEST_HALF = 4


def stands_alone(question: str, past: Sequence[Past]) -> bool:
    """Does it say by itself what it is about? Without a turn before it there is nothing to take from."""
    if not past:
        return True
    if leans(question):
        return False
    return len(set(terms(question))) > FEW_TERMS


def leans(question: str) -> bool:
    """Does it say that it hangs on what was said before?"""
    return bool(_BEGINS.search(question) or _POINTS.search(question))


def touches(question: str, passages: Sequence[Passage]) -> bool:
    """Does any of them hold one of the question's own words?"""
    own = set(terms(question))
    return any(covered(own, set(terms(one.whole))) for one in passages)


def completed(question: str, past: Sequence[Past]) -> str:
    """The question with what it leaves out, taken from the last one; as it is where that adds nothing."""
    if not past:
        return question
    own = set(terms(question))
    left = [rest for word, _, _ in words(past[-1].question) if is_term(word) for rest in _left(word, question)]
    kept = [word for word in left if not any(same(stem(word), one) for one in own)]
    added = list(dict.fromkeys(kept))[:MOST_TERMS]
    bare = _LEADING.sub("", _BEGINS.sub("", question).strip(" ,;:"))
    return f"{' '.join(added)} {bare or question}".strip() if added else question


def _left(word: str, question: str) -> list[str]:
    """What the question leaves of a word of the last one: of `Maschinenbau-Bachelor` the first half, where it asks of a
    master's, of `Bachelorarbeit` the second, of `2025` nothing, where it names another year or the other half of one.
    """
    if word.isdigit():
        other_year = _YEAR.search(question) or _replacing(_SEASONS, "", question)
        return [] if other_year and len(word) in (2, 4) else [word]
    parts = [part for part in re.split("-", re.split("['’]", word)[0]) if part]
    rest = [part if (mine := _replaced(part, question)) is None else _second_half(part, mine) for part in parts]
    if rest == parts:
        return [word]
    return [part for part in rest if part in parts or len(part) >= SHORTEST_HALF]


def _replaced(word: str, question: str) -> str | None:
    """The pattern of the group's member that the word is, where the question names another of that group."""
    for group in _GROUPS:
        mine = next((one for one in group if re.fullmatch(one, word, re.I)), None)
        if mine and _replacing(group, mine, question):
            return mine
    return None


def _replacing(group: Sequence[str], mine: str, question: str) -> bool:
    others = any(re.search(rf"\b(?:{one})\b", question, re.I) for one in group if one != mine)
    return others and not (mine and re.search(rf"\b(?:{mine})\b", question, re.I))


def _second_half(word: str, pattern: str) -> str:
    """`arbeit` of `Bachelorarbeit`: what follows the member's own letters."""
    stems = [one.removesuffix(r"\w*") for one in pattern.split("|")]
    mine = next((one for one in stems if re.match(one, word, re.I)), word)
    return re.sub(f"^{mine}", "", word, flags=re.I)
