"""What one answer looks like at a moment of its turn: states gathered into a value, which rendering draws. Pure."""

from dataclasses import dataclass, replace

from rag.answer.states import (
    Answer,
    Done,
    Failed,
    Language,
    Refused,
    Retrieved,
    Searching,
    State,
    Step,
    Writing,
)


@dataclass(frozen=True)
class View:
    """`titles`: of the passages found; `text`: the answer so far; `answer`, `refused` or `failed` comes at the end.

    `recognised` is the text of the asker's pictures, where they were read.
    """

    language: Language
    searching: bool = True
    searched: str = ""
    titles: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    text: str = ""
    answer: Answer | None = None
    refused: Refused | None = None
    failed: Failed | None = None
    stopped: bool = False
    recognised: str = ""

    @property
    def ended(self) -> bool:
        return bool(self.answer or self.refused or self.failed or self.stopped)

    @property
    def said(self) -> str:
        """The words of the answer, for the next question's sake."""
        return self.answer.text if self.answer else self.text or (self.failed.so_far if self.failed else "")


def after(view: View, state: State) -> View:
    """The view once `state` has come."""
    match state:
        case Searching(question, _):
            return replace(view, searched=question or "")
        case Retrieved(passages):
            return replace(view, searching=False, titles=tuple(one.title for one in passages))
        case Step():
            return replace(view, searching=False, steps=(*view.steps, state))
        case Writing(text, language):
            return replace(view, searching=False, text=text, language=language)
        case Done(answer):
            return replace(view, searching=False, answer=answer, text=answer.text, language=answer.language)
        case Refused():
            return replace(view, searching=False, refused=state, language=state.language)
        case Failed():
            return replace(view, searching=False, failed=state, text=state.so_far)
