"""Students at the chatbot without a browser: they speak Gradio's protocol, as its page does."""

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Heard:
    """What came of one question: seconds to the first words, and to the end."""

    first_words_s: float = 0.0
    seconds: float = 0.0
    drawings: int = 0
    completed: bool = False
    text: str = ""
    errors: list[str] = field(default_factory=list)


class Students:
    """Any number of chats at one chatbot."""

    def __init__(self, address: str, connections: int = 400) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(base_url=address, timeout=180, trust_env=False, limits=limits)
        self._ask: dict[str, Any] = {}

    async def __aenter__(self) -> "Students":
        config = (await self._http.get("/config")).json()
        self._ask = next(one for one in config["dependencies"] if one["api_name"] == "ask")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def ask(self, text: str, model: str = "") -> Heard:
        """One question in a chat of its own."""
        session, heard, begun = secrets.token_hex(6), Heard(), time.monotonic()
        # The box, what the browser keeps, the model, the tribunal, and two states that the server holds.
        data = [{"text": text, "files": []}, None, model, False, None, None]
        joined = await self._http.post(
            "/gradio_api/queue/join",
            json={"data": data, "fn_index": self._ask["id"], "session_hash": session, "trigger_id": None},
        )
        if joined.is_error:
            heard.errors.append(joined.text[:300])
            return heard
        async with self._http.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as events:
            async for line in events.aiter_lines():
                if line.startswith("data:"):
                    self._note(heard, line, begun)
                    if json.loads(line[5:])["msg"] in ("process_completed", "close_stream"):
                        break
        heard.seconds = time.monotonic() - begun
        return heard

    def _note(self, heard: Heard, line: str, begun: float) -> None:
        event = json.loads(line[5:])
        heard.text += line
        if event["msg"] == "process_generating":
            heard.drawings += 1
        if not heard.first_words_s and 'class=\\"answer\\"' in line:
            heard.first_words_s = time.monotonic() - begun
        if event["msg"] == "process_completed":
            heard.completed = bool(event.get("success"))
            if not heard.completed:
                heard.errors.append(line[:300])


async def over(seconds: float, count: int, ask: Any) -> list[Heard]:
    """`count` students who arrive evenly over so many seconds."""

    async def one(n: int) -> Heard:
        await asyncio.sleep(n * seconds / count)
        found: Heard = await ask(n)
        return found

    return list(await asyncio.gather(*(one(n) for n in range(count))))
