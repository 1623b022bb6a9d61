"""Pages that say the same under several addresses are one page with all of them."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rag.extract.page import Page

# datasketch brings scipy along, two seconds that most commands need not wait for: it is imported late.
if TYPE_CHECKING:
    from datasketch import MinHash

_SHINGLE_WORDS = 5
_LEAST_SIMILARITY = 0.9
_PERMUTATIONS = 128


def merge_duplicates(pages: Iterable[Page]) -> list[Page]:
    """The pages without near duplicates; of a group the shortest address leads and `urls` has all.

    Near is a Jaccard similarity of 0.9 of five-word shingles, with the same language and the same numbers: programmes
    of one faculty often differ in a date or a number only, and that is what people ask for.
    """
    from datasketch import MinHashLSH

    near = MinHashLSH(threshold=_LEAST_SIMILARITY, num_perm=_PERMUTATIONS)
    kept: dict[str, Page] = {}
    for page in sorted(pages, key=lambda page: (len(page.url), page.url)):
        if not page.blocks:
            kept[page.url] = page
            continue
        sketch = _sketch(page.text)
        same = [kept[url] for url in near.query(sketch) if _says_the_same(kept[url], page)]
        if same:
            first = min(same, key=lambda page: (len(page.url), page.url))
            kept[first.url] = replace(first, urls=tuple(dict.fromkeys((*first.urls, *page.urls))))
        else:
            near.insert(page.url, sketch)
            kept[page.url] = page
    return list(kept.values())


def _says_the_same(one: Page, other: Page) -> bool:
    return one.language == other.language and _numbers(one) == _numbers(other)


def _numbers(page: Page) -> frozenset[str]:
    return frozenset(re.findall(r"\d+(?:[.,:]\d+)*", f"{page.title}\n{page.text}"))


def _sketch(text: str) -> "MinHash":
    from datasketch import MinHash

    words = re.findall(r"\w+", text.lower())
    sketch = MinHash(num_perm=_PERMUTATIONS)
    sketch.update_batch(
        " ".join(words[start : start + _SHINGLE_WORDS]).encode()
        for start in range(max(1, len(words) - _SHINGLE_WORDS + 1))
    )
    return sketch
