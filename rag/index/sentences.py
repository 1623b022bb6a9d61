"""Sentences of German and English text, not cut at "z. B.", "Nr. 5", "Prof. Dr." or "15. Juli"."""

import re

_ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        """abb abs allg art aufl az bd begr bes best bsp bspw bzgl bzw ca co dipl dr ebd einschl engl etc evtl exkl
        fa ff fig fr frl geb gem ggf ggfs hr hrn hrsg ing inkl insb insbes jr kap lt max mind min mio mr
        mrs ms nat nr no o od pl phil prof rer resp rd s sog sr st std str stud tel techn tgl u usw univ
        v vgl vol vorl vs z zz zzgl zit approx dept e est ext fax i incl jan feb mär apr jun jul aug sep
        sept okt oct nov dez dec wiss habil med jur""",
    )
)
_END = re.compile(r"[.!?…]+[\"'”“»)\]]*\s+|\n+")
_LAST_WORD = re.compile(r"([^\W_]+)\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text in order; a line break ends one. Nothing is lost but the space between."""
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if "\n" not in end[0] and not _is_end(text[start : end.end()].rstrip(), text[end.end() :]):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _is_end(sentence: str, rest: str) -> bool:
    if not sentence.endswith("."):
        return True
    if rest[:1].islower():
        return False
    word = _LAST_WORD.search(sentence)
    if word is None:
        return True
    if word[1].isdigit():  # "am 15. Juli", "der 2. Versuch"; a year ends a sentence
        return len(word[1]) > 2
    return len(word[1]) > 1 and word[1].lower() not in _ABBREVIATIONS
