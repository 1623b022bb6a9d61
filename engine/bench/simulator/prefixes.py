"""Which part of a prompt a prefix cache would have had. It is only counted: the answer is no faster for it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

BLOCK_TOKENS = 16  # as vLLM has it: only whole blocks are found again
MOST_BLOCKS = 65_536


class Prefixes:
    """Remembers the blocks of earlier prompts, each by all that stands before it; the oldest are forgotten."""

    def __init__(self, most_blocks: int = MOST_BLOCKS) -> None:
        self._most = most_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def cached(self, words: Sequence[str]) -> int:
        """Tokens at the start of this prompt that an earlier one began with, too; then this one is remembered.

        At least one token is left to compute, as in vLLM.
        """
        chain, found, unbroken = 0, 0, True
        for at in range(0, len(words) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            chain = hash((chain, *words[at : at + BLOCK_TOKENS]))
            unbroken = unbroken and chain in self._blocks
            found += BLOCK_TOKENS * unbroken
            self._blocks[chain] = None
            self._blocks.move_to_end(chain)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return min(found, max(0, len(words) - 1) // BLOCK_TOKENS * BLOCK_TOKENS)


def prompt_words(given: dict[str, Any]) -> list[str]:
    """The tokens of a text prompt or of a chat's texts; pictures and prompts of other forms have none."""
    contents = [message.get("content") for message in given.get("messages") or ()] or [given.get("prompt")]
    return [word for content in contents if isinstance(content, str) for word in content.split()]
