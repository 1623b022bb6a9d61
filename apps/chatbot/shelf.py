"""An index that may not be there yet: opened at the first question, and looked for again at the next."""

import threading
from pathlib import Path

from rag.retrieve.passage import Found, Passage
from rag.retrieve.retriever import Retriever


class Shelf:
    """Thread-safe. Raises IndexMissing, which names the command that builds one, for as long as there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._retriever: Retriever | None = None

    def search(self, question: str, *, language: str | None = None, limit: int = 6) -> Found:
        return self._opened().search(question, language=language, limit=limit)

    def contacts(self, question: str) -> list[Passage]:
        return self._opened().contacts(question)

    def _opened(self) -> Retriever:
        with self._lock:
            if self._retriever is None:
                self._retriever = Retriever.open(self._folder)
            return self._retriever
