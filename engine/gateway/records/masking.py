"""Personal numbers out of a text before it is kept: e-mail addresses, IBANs, phone and matriculation numbers. Pure.

It errs on the side of masking, but leaves alone what a question is often about: dates, times, years, amounts, room
numbers, paragraphs, ECTS.
"""

import re

# Each pattern begins where a word does and repeats within bounds, so that a long text costs time in proportion.
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]+(?:@|\s?[\[(](?:at|ät)[\])]\s?)"
    r"[\w-]{1,63}(?:(?:\.|\s?[\[(](?:dot|punkt)[\])]\s?)[\w-]{1,63}){1,8}",
    re.I,
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ \u00a0-]?[A-Z0-9]{4}){2,7}(?:[ \u00a0-]?[A-Z0-9]{1,3})?\b", re.I)
# A word that announces it, then 5 to 12 digits, perhaps grouped; or, without one, exactly 7 or 8 digits on their own.
_MATRICULATION = re.compile(
    r"((?:matrikel|matriculation|mat\.?[ -]?n|matr\.?|student(?:en)?[ -]?(?:id|ausweis|nummer|number|no)"
    r"|immatrikulation)[\w.\s-]{0,20}?(?:(?:is|ist|lautet|:|=|#)\s{0,3}){0,3})(\d(?:[ .-]?\d){4,11})(?!\d)",
    re.I,
)
_BARE = re.compile(r"(?<![\d.,/€$-])\b\d{7,8}\b(?![.,/-]?\d|\s?(?:€|euro?|\$|usd|%))", re.I)
# +49 …, 0049 …, (0841) …, 0841 9348-0; and after a word that announces it, any grouping.
_PHONE = re.compile(
    r"(?<![\w.])(?:(?:\+|00)[1-9]\d{0,2}[\s./-]?(?:\(0\)[\s./-]?)?|\(0\d{1,5}\)[\s./-]?|0[1-9]\d{1,4}[\s./-]{0,3})"
    r"\(?\d{1,12}\)?(?:[\s./-]{1,3}\(?\d{1,12}\)?){0,5}(?!\w)"
)
_CALLED = re.compile(
    r"((?:tel(?:efon(?:nummer)?|ephone)?|phone|mobile?|handy(?:nummer)?|fax|call me at|ruf mich an)"
    r"[\s.:#]{0,3}(?:(?:number|nummer|no|nr|is|ist|unter|at)[\s.:]{0,3}){0,3})(\(?\d(?:[\s()./-]{0,2}\d){5,14})",
    re.I,
)
_DATE = re.compile(r"0?\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})")


def mask(text: str) -> str:
    """The text with each personal number replaced by what it was: `[e-mail]`, `[IBAN]` …."""
    text = _EMAIL.sub("[e-mail]", text)
    text = _IBAN.sub(_iban, text)
    text = _MATRICULATION.sub(r"\1[matriculation]", text)
    text = _CALLED.sub(r"\1[phone]", text)
    text = _PHONE.sub(_phone, text)
    return _BARE.sub("[matriculation]", text)


def _iban(found: re.Match[str]) -> str:
    """Whatever has an IBAN's form and length, right check digits or not: one with a typing error is personal too."""
    compact = re.sub(r"[^A-Za-z0-9]", "", found[0])
    digits = sum(character.isdigit() for character in compact)
    return "[IBAN]" if 15 <= len(compact) <= 34 and digits >= 10 else found[0]


def _phone(found: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in found[0])
    if found[0].isdigit() and found[0].startswith("00") and digits < 9:
        return "[matriculation]"
    return found[0] if not 6 <= digits <= 15 or _DATE.fullmatch(found[0].strip()) else "[phone]"
