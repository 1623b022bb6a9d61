"""What went wrong, in plain words for a student; whatever is for an operator stands apart. Pure."""

from engine.errors import (
    AccessDenied,
    EndpointError,
    EngineError,
    GatewayError,
    IndexMissing,
    Overloaded,
    RetrievalError,
)
from rag.answer.states import Failed, Language

_WORDS: dict[str, tuple[str, str]] = {
    "down": (
        "Das Sprachmodell, das die Antworten schreibt, ist gerade nicht zu erreichen. Versuche es gleich noch einmal.",
        "The language model that writes the answers cannot be reached right now. Please try again in a moment.",
    ),
    "broke": (
        "Die Verbindung zum Sprachmodell ist mitten in der Antwort abgebrochen. Was schon da war, steht oben.",
        "The connection to the language model broke in the middle of the answer. What had arrived stands above.",
    ),
    "starting": (
        "Das Sprachmodell startet gerade ({reason}). {wait}",
        "The language model is starting ({reason}). {wait}",
    ),
    "stopped": (
        "Das Sprachmodell läuft zurzeit nicht. Bitte wähle ein anderes oder versuche es später.",
        "The language model is not running at present. Please choose another one, or try later.",
    ),
    "queue": (
        "Gerade fragen sehr viele. {wait}",
        "Very many people are asking right now. {wait}",
    ),
    "no_model": (
        "Zurzeit ist kein Sprachmodell in Betrieb.",
        "No language model is in service at present.",
    ),
    "index": (
        "Die Webseiten der Hochschule sind hier noch nicht eingelesen, deshalb kann ich nichts nachschlagen.",
        "The university's pages have not been read in here yet, so I cannot look anything up.",
    ),
    "unreadable": (
        "Die eingelesenen Webseiten lassen sich nicht öffnen. Das muss der Betrieb in Ordnung bringen.",
        "The pages that were read in cannot be opened. The operator has to put this right.",
    ),
    "blind": (
        "„{model}“ kann keine Bilder sehen.",
        "“{model}” cannot see pictures.",
    ),
    "too_long": (
        "Das ist länger, als dieses Modell lesen kann. Bitte kürze die Frage oder die Datei.",
        "This is longer than the model can read. Please shorten the question or the file.",
    ),
    "empty": (
        "Das Modell hat nichts geantwortet. Bitte frage noch einmal oder wähle ein anderes Modell.",
        "The model answered nothing. Please ask again or choose another model.",
    ),
    "denied": (
        "Der Chat hat keinen Zugang zu den Sprachmodellen. Das muss der Betrieb in Ordnung bringen.",
        "The chat has no access to the language models. Its operator has to put this right.",
    ),
    "other": (
        "Etwas ist schiefgegangen. Bitte versuche es noch einmal.",
        "Something went wrong. Please try again.",
    ),
}
_SOON = ("Bitte versuche es gleich noch einmal.", "Please try again in a moment.")
_WAIT = ("Versuche es in etwa {s} Sekunden noch einmal.", "Please try again in about {s} seconds.")
STARTING = ("starting", "model_not_ready")
STOPPED = ("model_failed", "model_stopping", "model_stopped")


def say(kind: str, language: Language, **values: str) -> str:
    german, english = _WORDS[kind]
    return (german if language == "de" else english).format(**values)


def failed(kind: str, language: Language, hint: str = "", retry_after_s: int | None = None, **values: str) -> Failed:
    wait = _told(language, retry_after_s)
    words = say(kind, language, **{"wait": wait, **values})
    return Failed(words, kind not in ("denied", "blind", "too_long"), hint, retry_after_s, kind=kind)


def of_error(error: EngineError, language: Language, so_far: str = "") -> Failed:
    """An error of the engine or of retrieval as the asker should read it."""
    if so_far:
        told = failed("broke", language, str(error))
        return Failed(told.words, True, told.hint, so_far=so_far, kind="broke")
    if isinstance(error, IndexMissing):
        return failed("index", language, str(error))
    if isinstance(error, RetrievalError):
        return failed("unreadable", language, str(error))
    if isinstance(error, AccessDenied):
        return failed("denied", language, str(error))
    if isinstance(error, EndpointError):
        return failed("down", language, str(error))
    if isinstance(error, Overloaded):
        return failed("queue", language, str(error), error.retry_after_s)
    if isinstance(error, GatewayError):
        return _of_gateway(error, language)
    return failed("other", language, str(error))


def _of_gateway(error: GatewayError, language: Language) -> Failed:
    hint, wait_s = str(error), error.retry_after_s
    if error.code in STARTING:
        return failed("starting", language, hint, wait_s, reason=reason_in_words(hint, language))
    if error.code in STOPPED:
        return failed("stopped", language, hint)
    if error.code == "model_not_found":
        return failed("stopped", language, hint)
    if error.code == "context_length_exceeded" or error.status == 413 or is_too_long(error):
        return failed("too_long", language, hint)
    if error.status == 429:
        return failed("queue", language, hint, wait_s)
    if error.status in (500, 502, 503, 504):
        return failed("down", language, hint, wait_s)
    return failed("other", language, hint)


def is_too_long(error: EngineError) -> bool:
    """Inference engines say in different words that a prompt exceeds their context."""
    if not isinstance(error, GatewayError) or error.status not in (400, 413, 422, 500):
        return False
    told = str(error).lower()
    return error.code == "context_length_exceeded" or ("context" in told and ("exceed" in told or "length" in told))


def reason_in_words(reason: str, language: Language) -> str:
    """How far a starting model is: `queued`, `loading` …, in the asker's language."""
    german = {"queued": "es wartet auf Rechenzeit", "loading": "es wird geladen"}
    english = {"queued": "it waits for a free machine", "loading": "it is being loaded"}
    known = german if language == "de" else english
    return next((words for stage, words in known.items() if stage in reason), known["loading"])


def _told(language: Language, wait_s: int | None) -> str:
    at = 0 if language == "de" else 1
    return _WAIT[at].format(s=wait_s) if wait_s else _SOON[at]
