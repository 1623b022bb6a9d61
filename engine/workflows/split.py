"""A long text in chunks that a model's context takes, by the model's own count of tokens."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from engine.workflows import chunks

Count = Callable[[str], Awaitable[int]]
"""Text to tokens; raises EngineError."""

# Before anything is measured: fewer characters a token than most languages have, so that the first chunk fits at once.
FIRST_GUESS = 2.5
# Aim a little below what should fit; a chunk that is over it costs another count.
AIM = 0.95
SMALLEST, LARGEST = 0.25, 12.0


@dataclass(frozen=True)
class Chunk:
    """text[start:end] of the whole is new in it; before that it repeats the `overlap` characters that precede `start`.

    `tokens` are of the whole chunk, `own_tokens` (in proportion) of what is new.
    """

    text: str
    start: int
    end: int
    overlap: int
    tokens: int

    @property
    def own_tokens(self) -> int:
        return round(self.tokens * (self.end - self.start) / max(1, len(self.text)))


async def split(text: str, count: Count, limit: int, overlap_tokens: int) -> list[Chunk]:
    """Chunks of at most `limit` tokens, in order; what is new in them, joined, is the text.

    Each begins with about `overlap_tokens` (a third of `limit` at most) of its predecessor, in whole sentences. A
    sentence that fits is never cut.
    Costs one or two counts a chunk, for the length is guessed from how many characters a token had so far.
    """
    return [chunk async for chunk in next_chunks(text, count, limit, overlap_tokens)]


async def next_chunks(text: str, count: Count, limit: int, overlap_tokens: int) -> AsyncGenerator[Chunk, None]:
    """The same, one after the other."""
    last, ratio = Chunk("", 0, 0, 0, 0), FIRST_GUESS
    # More repetition than a third would leave no room for what is new, and cut it within words.
    overlap_tokens = min(overlap_tokens, limit // 3)
    while last.end < len(text):
        begin = chunks.overlap_start(text, last.end, int(overlap_tokens * ratio), last.start)
        last = await _next(text, last.end, begin, count, limit, ratio)
        ratio = min(LARGEST, max(SMALLEST, len(last.text) / max(1, last.tokens)))
        yield last


async def _next(text: str, start: int, begin: int, count: Count, limit: int, ratio: float) -> Chunk:
    """The chunk from `start`: guess, count, and guess again by what was counted, until it fits and is not too small."""

    async def ending_by(most: int) -> Chunk:
        end, _ = chunks.cut(text, start, max(most, start + 1))
        return await _counted(text, start, end, begin, count)

    chunk = await ending_by(begin + int(limit * ratio * AIM))
    while chunk.tokens > limit and (chunk.end > start + 1 or chunk.overlap):
        if chunk.overlap * 2 >= len(chunk.text):
            begin = start
        chunk = await ending_by(min(begin + _fitting(chunk, limit), chunk.end - 1))
    if chunk.end < len(text) and chunk.tokens < limit * chunks.EARLIEST:
        larger = await ending_by(begin + _fitting(chunk, limit))
        chunk = larger if larger.tokens <= limit else chunk
    return await _whole_sentence(text, chunk, count, limit) if _cuts_a_sentence(text, chunk) else chunk


def _fitting(chunk: Chunk, limit: int) -> int:
    """How many characters like the chunk's should fit."""
    return int(limit * AIM * min(LARGEST, len(chunk.text) / max(1, chunk.tokens)))


def _cuts_a_sentence(text: str, chunk: Chunk) -> bool:
    return chunk.end < len(text) and chunks.sentence_end(text, chunk.start, chunk.end, chunk.end) is None


async def _whole_sentence(text: str, chunk: Chunk, count: Count, limit: int) -> Chunk:
    """The chunk with the sentence that it cuts, where this fits alone."""
    left = max(0, limit - chunk.own_tokens) + 1
    end = chunks.sentence_end(text, chunk.start, chunk.end, chunk.end + int(left * LARGEST))
    if end is None:
        return chunk
    whole = await _counted(text, chunk.start, end, chunk.start, count)
    return whole if whole.tokens <= limit else chunk


async def _counted(text: str, start: int, end: int, begin: int, count: Count) -> Chunk:
    piece = text[begin:end]
    return Chunk(piece, start, end, start - begin, await count(piece))
