"""One question with everything around it: the conversation, the files, and how it is to be answered. Pure."""

from collections.abc import Sequence

from apps.chatbot import rendering
from apps.chatbot.files import Attached
from apps.chatbot.history import Kept, Turn
from apps.chatbot.texts import texts
from apps.chatbot.view import View
from rag.answer.states import Document, Language, Question

LONGEST_QUESTION = 8000


class Asking:
    """One question with everything around it."""

    def __init__(
        self,
        kept: Kept,
        text: str,
        given: Attached,
        names: Sequence[str],
        model: str,
        tribunal: bool,
        language: Language,
    ) -> None:
        self.kept, self.text, self.given, self.names = kept, text[:LONGEST_QUESTION], given, tuple(names)
        self.model, self.tribunal, self.language = model or "", bool(tribunal), language
        self.recognised = ""

    @property
    def question(self) -> Question:
        text = self.text or ("Was ist das?" if self.language == "de" else "What is this?")
        past = self.kept.chat.past
        pictures, documents = self.given.urls, self.given.documents
        if self.recognised:
            pictures, documents = (), (*documents, Document(texts(self.language)("recognised"), self.recognised))
        return Question(text, self.model, self.language, past, pictures, documents, self.tribunal)

    def turn(self, view: View) -> Turn:
        answer = view.answer
        return Turn(
            self.text,
            rendering.message(view, self.language),
            view.said,
            view.searched or (answer.searched if answer else ""),
            view.language,
            self.names,
            tuple(one.passage.url for one in answer.citations) if answer else (),
        )
