"""Greetings and thanks, which need neither an index nor a model. Pure."""

import re

from rag.answer.states import Language

_GREETING = (
    r"(?:hallo|hi|hey|moin|servus|grüß gott|guten (?:morgen|tag|abend)|hello|good (?:morning|afternoon|evening))"
)
_THANKS = (
    r"(?:(?:vielen |besten )?danke?(?: ?schön)?|super|ok(?:ay)?|alles klar|(?:many )?thanks|thank you|great|cheers)"
)
_WHO = r"(?:wer bist du|was bist du|was kannst du|who are you|what are you|what can you do|help|hilfe)"
_BYE = r"(?:tschüss?|ciao|auf wiedersehen|bye|goodbye|see you)"
_ONLY = {
    name: re.compile(
        rf"^\s*(?:{pattern}[\s,!.?]*(?:zusammen|there|dir|euch|a lot|so much|very much)?[\s,!.?]*)+$", re.I
    )
    for name, pattern in (("greeting", _GREETING), ("thanks", _THANKS), ("who", _WHO), ("bye", _BYE))
}
_ANSWERS: dict[str, tuple[str, str]] = {
    "greeting": (
        "Hallo! Frag mich etwas zum Studium: zu Fristen, Gebühren, Prüfungen, zur Bibliothek oder zur IT. "
        "Ich suche in den Webseiten der Hochschule und nenne die Stellen.",
        "Hello! Ask me something about your studies: deadlines, fees, exams, the library or IT. "
        "I search the university's pages and name the places.",
    ),
    "thanks": ("Gern geschehen! Hast Du noch eine Frage?", "You are welcome! Is there anything else?"),
    "who": (
        "Ich bin ein Programm, das Fragen zum Studium beantwortet. Ich suche in den Webseiten der Hochschule, ein "
        "Sprachmodell schreibt daraus die Antwort, und die Zahlen in Klammern führen zu den Stellen. Wo dort nichts "
        "steht, sage ich das.",
        "I am a program that answers questions about studying here. I search the university's pages, a language model "
        "writes the answer from them, and the numbers in brackets lead to the places. Where they say nothing, I tell "
        "you so.",
    ),
    "bye": ("Tschüss und viel Erfolg im Studium!", "Goodbye, and good luck with your studies!"),
}


def reply(text: str, language: Language) -> str | None:
    """An answer to what is nothing but a greeting, thanks or the like; None for everything else."""
    for name, only in _ONLY.items():
        if only.fullmatch(text):
            return _ANSWERS[name][language == "en"]
    return None
