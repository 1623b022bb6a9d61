"""What the chatbot keeps and takes in: conversations, files, its pace, the choice of models, feedback."""

import asyncio
import io
import json
import struct
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfWriter

from apps.chatbot import feedback, files, history
from apps.chatbot.files import BadFile
from apps.chatbot.history import Chat, Kept, Turn
from apps.chatbot.modelchoice import choices
from apps.chatbot.pace import Pace
from apps.chatbot.talking import Talk
from apps.chatbot.view import View
from engine.errors import EndpointRefused
from rag.answer import models
from rag.answer.states import Past
from rag.answer.turn import Turns
from tests.answering import ROW, Model, Shelf

TURN = Turn(
    "What is the fee?", '<div class="turn">72 euros</div>', "72 euros [1]", "", "en", (), ("https://a.example/",)
)


def test_a_conversation_survives_the_way_to_the_browser_and_back() -> None:
    kept = Kept().with_turn(TURN).with_turn(TURN)
    assert history.read(json.loads(json.dumps(kept.as_json()))) == kept
    assert len(kept.chats) == 1 and [one["role"] for one in kept.chat.messages()] == ["user", "assistant"] * 2


def test_several_conversations_stand_side_by_side_the_latest_first() -> None:
    kept = Kept().with_turn(TURN).opened("")
    assert kept.chat.turns == ()
    kept = kept.with_turn(Turn("Second?", "x"))
    assert [chat.title for chat in kept.chats] == ["Second?", "What is the fee?"]
    assert kept.opened(kept.chats[1].id).chat.past == (Past("What is the fee?", "72 euros [1]"),)


@pytest.mark.parametrize(
    "stored",
    [None, [], "x", {"version": 2}, {"version": 1, "chats": 7}, {"version": 1, "chats": [{"id": 1, "turns": [3]}]}],
)
def test_what_a_browser_holds_that_is_not_ours_is_left_out(stored: Any) -> None:
    assert history.read(stored).chats == ()


def test_what_somebody_wrote_into_the_storage_is_cleaned() -> None:
    evil = {"id": "a", "turns": [{"question": "q", "html": '<b onclick="x()">hi</b><script>alert(1)</script>'}]}
    [chat] = history.read({"version": 1, "chats": [evil], "current": "a"}).chats
    assert chat.turns[0].html == "hi"


def test_a_browsers_space_is_not_overrun() -> None:
    kept = Kept()
    for n in range(60):
        kept = kept.opened("").with_turn(Turn(f"Question {n}", "x" * 20_000))
    assert len(json.dumps(kept.as_json())) < 450_000 and kept.chats[0].title == "Question 59"
    for n in range(60):
        kept = kept.with_turn(Turn(f"More {n}", "x" * 20_000))
    assert len(json.dumps(kept.as_json())) < 450_000 and kept.chat.turns[-1].question == "More 59"


def test_a_retry_cuts_the_conversation_where_it_begins_anew() -> None:
    kept = Kept().with_turn(TURN).with_turn(Turn("Second?", "x"))
    assert kept.cut(1).chat == Chat(kept.chat.id, (TURN,))


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size, with next to nothing inside."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(picture: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **more)
    return out.getvalue()


def test_a_picture_is_scaled_and_loses_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera of Erika Muster", 6
    made = files.picture(encoded(Image.new("RGB", (4000, 1000), "red"), "JPEG", exif=exif), "photo.jpg")
    with Image.open(io.BytesIO(made)) as picture:
        # Turned upright, as its metadata said, before they went.
        assert picture.format == "JPEG" and picture.size == (320, 1280) and not picture.getexif()
    assert b"Erika" not in made


def test_what_is_clear_becomes_white() -> None:
    made = files.picture(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"), "clear.png")
    with Image.open(io.BytesIO(made)) as picture:
        assert min(picture.getpixel((4, 4))) > 250  # type: ignore[arg-type, type-var]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (png(50_000, 50_000), "file_large"),
        (png(7_000, 7_000), "file_large"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "file_kind"),
        (b"", "file_kind"),
        (encoded(Image.new("RGB", (64, 64)), "PNG")[:-40], "file_broken"),
        (encoded(Image.new("RGB", (64, 64)), "BMP"), "file_kind"),
    ],
)
def test_a_bomb_or_a_broken_picture_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadFile) as caught:
        files.picture(data, "x.png")
    assert caught.value.why == why


def test_texts_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Prüfung".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(b"MZ\0\0binary")
    (tmp_path / "c.txt").write_text("  \n")
    assert files.read([tmp_path / "a.txt"]).documents[0].text == "Prüfung"
    for name, why in (("b.txt", "file_kind"), ("c.txt", "file_empty")):
        with pytest.raises(BadFile) as caught:
            files.read([tmp_path / name])
        assert (caught.value.why, caught.value.name) == (why, name)


def test_pdfs_without_text_locked_or_broken_are_refused(tmp_path: Path) -> None:
    for name, why in (("empty.pdf", "file_empty"), ("locked.pdf", "file_locked")):
        writer = PdfWriter()
        writer.add_blank_page(100, 100)
        if why == "file_locked":
            writer.encrypt("secret", algorithm="RC4-128")
        writer.write(tmp_path / name)
        with pytest.raises(BadFile) as caught:
            files.read([tmp_path / name])
        assert caught.value.why == why
    (tmp_path / "broken.pdf").write_bytes(b"no pdf at all")
    with pytest.raises(BadFile):
        files.read([tmp_path / "broken.pdf"])


async def views(*texts: str) -> AsyncGenerator[View, None]:
    yield View("en")
    for text in texts:
        yield View("en", False, text=text)


async def test_first_words_come_at_once_growth_at_a_pace_and_the_end_always() -> None:
    moments = iter([0.0, 0.0, 0.05, 0.1, 0.21, 0.21, 0.3, 0.35])
    shown = [
        view.text
        async for view in Pace(apart_s=0.2).paced(views("a", "ab", "abc", "abcd", "abcde"), lambda: next(moments))
    ]
    assert shown[:2] == ["", "a"] and shown[-1] == "abcde" and len(shown) < 6


async def test_the_more_chats_write_the_rarer_each_is_drawn() -> None:
    pace = Pace(per_s=60, apart_s=0.2)
    open_chats = [pace.paced(views("a")) for _ in range(60)]
    for chat in open_chats:
        await anext(chat)
    assert pace.apart_s == pytest.approx(1.0)
    for chat in open_chats:
        await chat.aclose()
    assert pace.apart_s == 0.2


async def test_a_chat_that_is_left_closes_what_it_was_reading() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[View, None]:
        try:
            while True:
                yield View("en")
                await asyncio.sleep(0)
        finally:
            closed.set()

    chat = Pace().paced(endless())
    await anext(chat)
    await chat.aclose()
    assert closed.is_set()


def test_the_choice_of_models_says_how_busy_each_is() -> None:
    rows = [
        {**ROW, "id": "a"},
        {**ROW, "id": "b", "load": 4},
        {**ROW, "id": "c", "load": 4, "queued": 3, "vision": True},
        {**ROW, "id": "d", "ready": 0, "toy": True},
    ]
    assert choices(models.read(rows), "en") == [
        ("Automatic", ""),
        ("a · free", "a"),
        ("b · busy", "b"),
        ("c · sees pictures · 3 waiting", "c"),
        ("d · toy · starting", "d"),
    ]


async def test_feedback_names_question_answer_and_sources_and_nobody() -> None:
    model, stored = Model(), Kept().with_turn(TURN).as_json()
    said = feedback.about(stored, 0)
    assert said is not None and feedback.about(stored, 1) is None
    assert await feedback.send(model, "dislike", said, "Wrong", "it is 75")
    assert model.said == [
        {
            "kind": "dislike",
            "question": "What is the fee?",
            "language": "en",
            "answer": "72 euros [1]",
            "sources": ["https://a.example/"],
            "reason": "Wrong: it is 75",
        }
    ]


async def test_feedback_that_does_not_get_through_is_told() -> None:
    class Deaf(Model):
        async def feedback(self, *args: Any, **more: Any) -> Any:
            raise EndpointRefused("no connection")

    assert not await feedback.send(Deaf(), "like", {"question": "q", "language": "de", "answer": "", "sources": []})


def test_what_was_written_when_an_answer_was_stopped_is_kept_as_its_turn() -> None:
    half = '<div class="turn busy" lang="de"><div class="answer"><p>Die Gebühr<script>x</script></p></div></div>'
    shown = [
        {"role": "user", "content": [{"type": "text", "text": "Wie hoch ist die Gebühr?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": half}]},
    ]
    update = Talk(Turns(Model(), Shelf()), Pace(), Model()).stopped(shown, None, "de")
    [turn] = history.read(update["kept"]).chat.turns
    assert turn.question == "Wie hoch ist die Gebühr?" and "Die Gebühr" in turn.said
    assert turn.html.endswith('<p class="note">Angehalten.</p></div>') and "busy" not in turn.html
    assert "script" not in turn.html
