"""Every word of the screen, in German and English. Pure."""

from dataclasses import dataclass

from rag.answer.states import Language

_TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Campus-Assistent", "Campus assistant"),
    "subtitle": ("Fragen zum Studium, beantwortet mit Quellen", "Questions about your studies, answered with sources"),
    "welcome": ("Was möchtest Du wissen?", "What would you like to know?"),
    "welcome_more": (
        "Ich suche in den Webseiten der Hochschule und nenne zu jeder Aussage die Stelle. "
        "Finde ich nichts, sage ich das und nenne Dir das zuständige Büro.",
        "I search the university's pages and name the place for each statement. "
        "If I find nothing, I say so and name the office that can help.",
    ),
    "ask": ("Stelle eine Frage …", "Ask a question …"),
    "ask_label": ("Deine Frage", "Your question"),
    "chat_label": ("Gespräch", "Conversation"),
    "new_chat": ("Neues Gespräch", "New conversation"),
    "chats": ("Deine Gespräche", "Your conversations"),
    "forget": ("Alle Gespräche löschen", "Delete all conversations"),
    "only_here": (
        "Gespräche bleiben nur in diesem Browser.",
        "Conversations stay in this browser only.",
    ),
    "model": ("Sprachmodell", "Language model"),
    "automatic": ("Automatisch", "Automatic"),
    "tribunal": ("Tribunal: Antwort prüfen lassen", "Tribunal: have the answer checked"),
    "tribunal_info": (
        "Das Modell urteilt über seine Antwort nach Regeln und bessert sie nach. Dauert länger.",
        "The model judges its answer by rules and revises it. Takes longer.",
    ),
    "language": ("Sprache", "Language"),
    "notice": (
        "Antworten schreibt eine KI; sie kann sich irren. Verbindlich sind die verlinkten Seiten. "
        "Gib keine persönlichen Daten ein.",
        "Answers are written by an AI, which can be wrong. The linked pages are what counts. "
        "Do not enter personal data.",
    ),
    "sample": ("Die Seiten sind die einer erfundenen Hochschule.", "The pages are those of a made-up university."),
    "again": ("Noch einmal versuchen", "Try again"),
    "see_with": ("Mit {model} ansehen", "Look at it with {model}"),
    "recognise": ("Nur den Text im Bild lesen", "Only read the text in the picture"),
    "why": ("Was war nicht gut?", "What was not good?"),
    "reasons": (
        "Falsch|Veraltet|Unvollständig|Am Thema vorbei|Unverständlich",
        "Wrong|Out of date|Incomplete|Off the point|Hard to understand",
    ),
    "reason_more": ("Möchtest Du mehr sagen? (freiwillig)", "Anything else? (optional)"),
    "send_reason": ("Absenden", "Send"),
    "skip_reason": ("Ohne Begründung", "Without a reason"),
    "thanks": ("Danke für die Rückmeldung!", "Thank you for the feedback!"),
    "not_sent": ("Die Rückmeldung kam nicht an.", "The feedback did not get through."),
    "searching": ("Ich suche …", "Searching …"),
    "searched": ("Gesucht nach", "Searched for"),
    "reading": ("Passende Stellen: {count}. Ich lese …", "Places found: {count}. Reading …"),
    "asking": ("Ich schreibe …", "Writing …"),
    "sources": ("Quellen", "Sources"),
    "read": ("Gelesen, aber nicht genannt", "Read, but not cited"),
    "open_page": ("Seite öffnen", "Open the page"),
    "as_of": ("Stand {date}", "as of {date}"),
    "no_date": ("ohne Datum", "undated"),
    "german_page": ("Deutsche Fassung", "German version"),
    "english_page": ("Englische Fassung", "English version"),
    "binding": ("Maßgeblich ist die neuere deutsche Fassung.", "The German version is newer and is the binding one."),
    "unsupported": (
        "Diesen Satz belegt keine der Quellen.",
        "None of the sources bears this sentence out.",
    ),
    "unsupported_note": (
        "Unterstrichenes steht so in keiner Quelle. Prüfe es nach.",
        "What is underlined stands in none of the sources. Check it.",
    ),
    "flag_deadline": (
        "Quelle {n} nennt eine Frist, die vorbei ist: {words}.",
        "Source {n} names a deadline that has passed: {words}.",
    ),
    "flag_semester": (
        "Quelle {n} gilt für ein vergangenes Semester: {words}.",
        "Source {n} is about a semester that has passed: {words}.",
    ),
    "flag_old": ("Quelle {n} ist von {words}.", "Source {n} is from {words}."),
    "cut": ("Die Antwort ist an ihrer Höchstlänge abgebrochen.", "The answer was cut at its greatest length."),
    "refused": (
        "Dazu finde ich auf den Seiten der Hochschule nichts, und raten möchte ich nicht.",
        "I find nothing about this on the university's pages, and I do not want to guess.",
    ),
    "office": ("Hier kann man Dir weiterhelfen", "Who can help you"),
    "nearest": ("Am nächsten kommen diese Seiten", "The nearest pages are"),
    "steps": ("Tribunal", "Tribunal"),
    "step_draft": ("Entwurf geschrieben", "Draft written"),
    "step_kept": ("„{law}“: eingehalten", "“{law}”: kept"),
    "step_violated": ("„{law}“: verletzt. {reason}", "“{law}”: violated. {reason}"),
    "step_unjudged": ("„{law}“: kein Urteil", "“{law}”: no judgement"),
    "step_revision": ("Überarbeitet (Runde {round})", "Revised (round {round})"),
    "step_accepted": ("Angenommen: die Antwort hält alle Regeln ein.", "Accepted: the answer keeps all the rules."),
    "step_rejected": (
        "Abgelehnt: die Antwort hält nicht alle Regeln ein. Lies sie mit Vorsicht.",
        "Rejected: the answer does not keep all the rules. Read it with care.",
    ),
    "step_bypassed": (
        "Übersprungen: Gerade fragen viele, da antwortet das Modell ohne Tribunal.",
        "Skipped: many people are asking right now, so the model answers without the tribunal.",
    ),
    "step_split": ("Die Datei wird in {chunks} Teilen gelesen", "The file is read in {chunks} parts"),
    "step_note": ("Teil {n} von {chunks} gelesen", "Part {n} of {chunks} read"),
    "step_whole": ("Alles gelesen", "All read"),
    "long_steps": ("Lange Datei", "Long file"),
    "own_file": ("Grundlage: Deine Datei", "Made from your file"),
    "ungrounded": ("Ohne Quellen von der Hochschule.", "Without sources from the university."),
    "copy": ("Kopieren", "Copy"),
    "stopped": ("Angehalten.", "Stopped."),
    "recognised": ("Erkannter Text", "Recognised text"),
    "nothing_recognised": ("In dem Bild ist kein Text zu erkennen.", "No text can be recognised in the picture."),
    "idle": ("frei", "free"),
    "busy": ("beschäftigt", "busy"),
    "waiting": ("{n} warten", "{n} waiting"),
    "starts": ("startet", "starting"),
    "sees": ("sieht Bilder", "sees pictures"),
    "toy": ("Spielzeug", "toy"),
    "simulated": ("simuliert", "simulated"),
    "file_kind": (
        "„{name}“ kann ich nicht lesen. Ich nehme PDF, Text und Bilder (PNG, JPEG, WebP).",
        "I cannot read “{name}”. I take PDF, text and pictures (PNG, JPEG, WebP).",
    ),
    "file_large": ("„{name}“ ist zu groß.", "“{name}” is too large."),
    "file_empty": (
        "In „{name}“ steht kein lesbarer Text. Ist es ein Scan, dann gib mir die Seite als Bild.",
        "“{name}” holds no readable text. If it is a scan, give me the page as a picture.",
    ),
    "file_broken": ("„{name}“ lässt sich nicht öffnen.", "“{name}” cannot be opened."),
    "file_locked": ("„{name}“ ist mit einem Kennwort geschützt.", "“{name}” is protected by a password."),
    "too_many": ("Höchstens {n} Dateien auf einmal.", "At most {n} files at a time."),
}  # fmt: skip

EXAMPLES: dict[Language, tuple[str, ...]] = {
    "de": (
        "Bis wann muss ich mich zurückmelden?",
        "Wann hat die Bibliothek am Samstag offen?",
        "Wie komme ich mit dem Laptop ins WLAN?",
        "An wen wende ich mich bei Fragen zum BAföG?",
    ),
    "en": (
        "How long do I have to re-register?",
        "When is the library open on Saturday?",
        "How do I get my laptop onto the Wi-Fi?",
        "Whom do I ask about a semester abroad?",
    ),
}


@dataclass(frozen=True)
class Texts:
    """The words of one language: `texts("reading", count=5)`."""

    language: Language

    def __call__(self, what: str, /, **values: object) -> str:
        text = _TEXTS[what][self.language == "en"]
        return text.format(**values) if values else text

    @property
    def reasons(self) -> list[str]:
        return self("reasons").split("|")


def texts(language: str) -> Texts:
    return Texts("en" if language == "en" else "de")


def of_browser(accept_language: str) -> Language:
    """The interface's language by an Accept-Language header: whichever of the two comes first there, else English."""
    weighted = []
    for at, part in enumerate(accept_language.split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighted.append((-float(weight or 1), at, tag.lower()[:2]))
        except ValueError:
            continue
    for _, _, tag in sorted(weighted):
        if tag == "de":
            return "de"
        if tag == "en":
            return "en"
    return "en"
