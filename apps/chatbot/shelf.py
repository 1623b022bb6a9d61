"""An index that may not be there yet: opened at the first question, and looked for again at the next.

Where none was ever built, the sample that comes with the engine is indexed, by a process of its own.
"""

import subprocess
import sys
import threading
from pathlib import Path

from engine.errors import IndexMissing
from engine.settings import ROOT
from rag import sample
from rag.retrieve.passage import Found, Passage
from rag.retrieve.retriever import Retriever

SAMPLE_TIMEOUT_S = 300.0


class Shelf:
    """Thread-safe. Raises IndexMissing, which names the command that builds one, for as long as there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._retriever: Retriever | None = None

    def search(self, question: str, *, language: str | None = None, limit: int = 6) -> Found:
        return self._opened().search(question, language=language, limit=limit)

    def contacts(self, question: str) -> list[Passage]:
        return self._opened().contacts(question)

    @property
    def is_sample(self) -> bool:
        return sample.is_sample(self._folder)

    def prepare(self) -> None:
        """Opens the index, the sample's if need be; whoever asks meanwhile waits for it."""
        with self._lock:
            if self._retriever is None:
                self._retriever = self._found() or self._sample()

    def _opened(self) -> Retriever:
        with self._lock:
            if self._retriever is None:
                self._retriever = Retriever.open(self._folder)
            return self._retriever

    def _found(self) -> Retriever | None:
        try:
            return Retriever.open(self._folder)
        except IndexMissing:
            return None

    def _sample(self) -> Retriever | None:
        """The sample, where it came with the engine; what is in its way is on stderr, and an index can still come."""
        if not sample.is_there():
            return None
        argv = [sys.executable, "-m", "rag", "sample", "--index", str(self._folder)]
        try:
            subprocess.run(argv, cwd=ROOT, check=False, timeout=SAMPLE_TIMEOUT_S, stdout=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            print(f"chatbot: {' '.join(argv)} did not end within {SAMPLE_TIMEOUT_S:.0f} s", file=sys.stderr)
        return self._found()
