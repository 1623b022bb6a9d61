"""Which language a question is in: German or English."""

import functools
import re
from typing import Any, cast

from rag.answer.states import Language
from rag.answer.terms import STOP_WORDS

# Below so many words a guess by letters is worth less than the language of the screen.
FEW_WORDS = 3
SURE = 8.0
UMLAUTS = re.compile("[äöüß]", re.I)


def detect(text: str, interface: Language) -> Language:
    """By function words, then umlauts, then letter groups; what tells nothing is in the screen's language."""
    words = re.findall(r"[a-zäöüß']+", text.lower())
    german, english = (sum(word in STOP_WORDS[one] for word in words) for one in ("de", "en"))
    if german != english:
        return "de" if german > english else "en"
    if UMLAUTS.search(text):
        return "de"
    if not words or len(words) < FEW_WORDS:
        return interface
    language, score = _identifier().classify(text)
    margin = abs(float(score) - _other_score(text, language))
    return cast(Language, language) if margin >= SURE else interface


def _other_score(text: str, language: str) -> float:
    return next(float(score) for name, score in _identifier().rank(text) if name != language)


@functools.cache
def _identifier() -> Any:
    """py3langid with its own model, restricted to our languages; loaded at first use."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_pickled_model(MODEL_FILE)
    identifier.set_languages(["de", "en"])
    return identifier
