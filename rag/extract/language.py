"""Which of the two languages a text is in."""

import re
import threading
from functools import cache
from typing import Any

LANGUAGES = ("de", "en")
# So short a text is judged by its function words, where a statistical model guesses.
SHORT = 60
_GERMAN = frozenset(
    re.findall(
        r"\w+",
        """der die das den dem des ein eine einen einem einer und oder ist sind war wird werden wann wo wie was wer
        wen wem welche welcher welches welchen warum wieso wohin woher ich du er sie es wir ihr mein
        meine meinen meiner mich mir dich dir uns im am zum zur vom beim für mit ohne von bei nach aus
        auf über unter nicht kein keine kann muss darf soll will möchte gibt hat habe hast haben bis
        seit wenn dass ob auch noch schon sich an zu als um viel viele lange kostet bekomme""",
    )
)
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        """the a an and or is are was were be been when where how what who whom which why i you he she it we they
        my your our their me us him her them of to for with without from at by on in into not no can
        must may should will would could do does did has have had until since if that whether also there
        this these those much many long get cost am as about""",
    )
)
_identifying = threading.Lock()


def detect(text: str, default: str = "de") -> str:
    """ "de" or "en"; `default` when nothing in the text tells."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    german = sum(word in _GERMAN for word in words) + any(letter in text for letter in "äöüßÄÖÜ")
    english = sum(word in _ENGLISH for word in words)
    if german != english and (len(text) < SHORT or abs(german - english) * 6 > len(words)):
        return "de" if german > english else "en"
    if not words or len(text) < 12:
        return default
    with _identifying:  # the identifier keeps state while it reads
        return str(_identifier().classify(text[:4000])[0])


def page_language(declared: str, text: str) -> str:
    """A page's language: what it declares, unless a long text is plainly in the other one."""
    declared = declared[:2].lower()
    if declared not in LANGUAGES:
        return detect(text)
    if len(text) < 300:
        return declared
    with _identifying:
        language, probability = _identifier().classify(text[:4000])
    return str(language) if probability > 0.99 else declared


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier
