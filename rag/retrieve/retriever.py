"""Retriever: answers questions with passages from the current generation of an index."""

from pathlib import Path

from engine.errors import IndexMissing
from engine.settings import Settings
from rag.retrieve.passage import Found, Passage, Way


class Retriever:
    """Reads an index. Thread-safe; goes over to a new generation by itself as soon as that is made current."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def open(cls, where: Path | Settings) -> "Retriever":
        """A retriever of the index in this folder, or of the one under ENGINE_LOCAL; raises IndexMissing."""
        folder = where.local / "index" if isinstance(where, Settings) else where
        if not (folder / "current").is_file():
            raise IndexMissing(f"there is no index in {folder}; `python -m rag build` makes one from what was crawled")
        return cls(folder)

    def search(self, question: str, *, language: str | None = None, limit: int = 6, way: Way = "hybrid") -> Found:
        """The passages nearest to a question in German or English, best first, and whether they can answer it.

        `language` is the question's ("de", "en"); None detects it. Blocks some 20 to 50 ms: from a coroutine, call it
        in a thread. Raises IndexMissing when the index has gone.
        """
        raise NotImplementedError

    def contacts(self, question: str) -> list[Passage]:
        """The contact cards nearest to the question, at most three: whom to ask when the pages do not answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of the generation."""
