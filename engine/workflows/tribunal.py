"""The tribunal: generate an answer, have it judged by laws, revise it by the reasons, until it keeps them all.

What counts: an answer is accepted when every law was judged and no judge finds one violated. A judge whose reply cannot
be read, even after one repair question, has given no judgement. Where that leaves a law without any, the answer is not
accepted, for nobody has vouched for it; and where nothing else is wrong it is not revised either, for nobody said how.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from engine.errors import EngineError
from engine.workflows import findings
from engine.workflows.case import Case, Draft, Ended, Judged, Message, Revision, Round, Step, Verdict
from engine.workflows.complete import Complete, Tally, Usage, own, plain, refuses_the_body
from engine.workflows.findings import Finding
from engine.workflows.laws import Law
from engine.workflows.parallel import as_they_end
from engine.workflows.prompts import PROMPTS, Prompts

__all__ = ["Case", "Draft", "Finding", "Judged", "Message", "Revision", "Round", "Step", "Verdict", "tribunal"]


async def tribunal(
    case: Case, complete: Complete, has_room: Callable[[], bool], prompts: Prompts = PROMPTS
) -> AsyncGenerator[Step, None]:
    """The steps as they happen, the Verdict last; close the iterator (contextlib.aclosing) when leaving early.

    `has_room` tells whether the deployment has capacity for more than plain answers: without it at the start the model
    answers by itself and the verdict is bypassed; without it later no further round begins. Raises EngineError when the
    first answer fails; whatever fails after that becomes part of the findings or of the verdict.
    """
    tally = Tally(complete)
    court = Court(case, tally, prompts)
    if not has_room():
        answer = case.draft if case.draft is not None else await court.answer(list(case.messages))
        yield Verdict(None, answer, (), tally.usage, "peak", "bypassed", case.laws)
        return
    draft = case.draft if case.draft is not None else await court.generate()
    yield Draft(draft)
    rounds: list[Round] = []
    error: str | None = None
    while True:
        number = len(rounds) + 1
        found: list[Finding] = []
        async with aclosing(court.critique(draft, number)) as judged:
            async for finding in judged:
                found.append(finding)
                yield Judged(finding, number)
        rounds.append(Round(draft, court.in_order(found)))
        if ended := _ended(rounds, case.max_rounds, has_room):
            break
        try:
            draft = await court.revise(rounds[-1])
        except EngineError as failed:
            ended, error = "revision_failed", str(failed)
            break
        yield Revision(draft, number + 1)
    yield _verdict(case, rounds, tally.usage, ended, error)


def _ended(rounds: Sequence[Round], max_rounds: int, has_room: Callable[[], bool]) -> Ended | None:
    last = rounds[-1]
    if not last.violated:
        return "no_judgement" if last.unjudged else "kept"
    if len(rounds) >= max_rounds:
        return "max_rounds"
    return None if has_room() else "no_room"


def _verdict(case: Case, rounds: Sequence[Round], usage: Usage, ended: Ended, error: str | None) -> Verdict:
    accepted = ended == "kept"
    best = rounds[-1] if accepted else min(reversed(rounds), key=lambda one: (len(one.violated), len(one.unjudged)))
    return Verdict(accepted, best.draft, tuple(rounds), usage, None, ended, case.laws, error)


class Court:
    """The questions that the tribunal asks of models."""

    def __init__(self, case: Case, tally: Tally, prompts: Prompts) -> None:
        self.case, self._tally, self._prompts = case, tally, prompts
        self._conversation = "\n\n".join(f"{m.get('role', 'user')}: {plain(m.get('content'))}" for m in case.messages)
        # Judges whose inference engine refused a JSON schema in this run.
        self._without_schema: set[str] = set()

    async def answer(self, messages: list[Message]) -> str:
        return await self._tally.ask({**own(self.case.parameters), "model": self.case.model, "messages": messages})

    async def generate(self) -> str:
        text = self._prompts.render("generate", laws=self.case.laws.laws)
        return await self.answer(as_system(self.case.messages, text))

    async def critique(self, draft: str, number: int) -> AsyncGenerator[Finding, None]:
        """A finding per law and judge, all at once, as they end."""
        seats = self._seats(number)

        async def judge(seat: tuple[Law, str]) -> Finding:
            return await self._judge(draft, *seat)

        async with aclosing(as_they_end(seats, judge, lambda: len(seats))) as found:
            async for finding in found:
                yield finding

    def _seats(self, number: int) -> list[tuple[Law, str]]:
        """Who judges what in a round."""
        judges = tuple(self.case.judges) or (self.case.model,)
        if self.case.jury == "all":
            return [(law, judge) for law in self.case.laws.laws for judge in dict.fromkeys(judges)]
        return [(law, judges[(at + number - 1) % len(judges)]) for at, law in enumerate(self.case.laws.laws)]

    async def _judge(self, draft: str, law: Law, judge: str) -> Finding:
        text = self._prompts.render("critique", conversation=self._conversation, draft=draft, law=law)
        messages: list[Message] = [{"role": "user", "content": text}]
        try:
            said = await self._ask_judge(judge, messages)
            finding = findings.parse(said, law.name, judge)
            if finding is None:
                again = {"role": "user", "content": self._prompts.render("repair")}
                said = await self._ask_judge(judge, [*messages, {"role": "assistant", "content": said[:2000]}, again])
                finding = findings.parse(said, law.name, judge)
        except EngineError as error:
            return findings.no_judgement(law.name, judge, f"{judge} failed: {error}")
        return finding or findings.no_judgement(law.name, judge, f"{judge} was asked twice and replied {said[:200]!r}")

    async def _ask_judge(self, judge: str, messages: list[Message]) -> str:
        body = {"model": judge, "messages": messages, "temperature": 0, "max_tokens": self.case.judge_tokens}
        if judge in self._without_schema:
            return await self._tally.ask(body)
        try:
            return await self._tally.ask({**body, "response_format": findings.RESPONSE_FORMAT})
        except EngineError as error:
            if not refuses_the_body(error):
                raise
        said = await self._tally.ask(body)
        # Only now is it known that the schema was what it refused.
        self._without_schema.add(judge)
        return said

    async def revise(self, last: Round) -> str:
        """A better answer by the reasons; the old one where the model says nothing."""
        laws = {law.name: law.text for law in self.case.laws.laws}
        broken = {finding.law for finding in last.violated}
        kept = [law for law in self.case.laws.laws if law.name not in broken]
        text = self._prompts.render("revise", draft=last.draft, findings=last.violated, laws=laws, kept=kept)
        return await self.answer(with_more(self.case.messages, text)) or last.draft

    def in_order(self, found: Sequence[Finding]) -> tuple[Finding, ...]:
        order = {law.name: at for at, law in enumerate(self.case.laws.laws)}
        return tuple(sorted(found, key=lambda finding: (order[finding.law], finding.judge)))


def as_system(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with `text` in the system's place: one message, for many chat templates know of one alone."""
    if messages[0].get("role") in ("system", "developer"):
        return [_joined(messages[0], text), *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def with_more(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with `text` at the end of the last one, if it is the user's, for many want roles in turn."""
    if messages[-1].get("role") == "user":
        return [*messages[:-1], _joined(messages[-1], text)]
    return [*messages, {"role": "user", "content": text}]


def _joined(message: Message, text: str) -> Message:
    content = message.get("content") or ""
    if isinstance(content, list):
        return {**message, "content": [*content, {"type": "text", "text": text}]}
    return {**message, "content": f"{content}\n\n{text}"}
