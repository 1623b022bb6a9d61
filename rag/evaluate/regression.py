"""The regression gate of a new generation: it must answer a set of questions about as well as the current one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import IndexRejected, RetrievalError
from rag.evaluate.beir import Dataset
from rag.evaluate.compare import Outcome, ask
from rag.evaluate.metrics import mean
from rag.index.cache import EmbeddingCache
from rag.index.embed import Embedder
from rag.index.generations import Generations
from rag.retrieve.generation import Generation

# So much worse than the current generation may be noise; more is not.
_TOLERANCE = 0.03


@dataclass(frozen=True)
class Bar:
    """What a new generation must reach: `ndcg` of nDCG@10 at least."""

    ndcg: float
    said: str


def regression_check(
    dataset: Dataset, generations: Generations, embedder: Embedder, cache: EmbeddingCache, least_ndcg: float = 0.0
) -> Callable[[Generation], None]:
    """A check for `build` that raises IndexRejected below `least_ndcg`, or clearly below the current generation."""

    def check(new: Generation) -> None:
        reached = _ndcg(new, dataset, embedder, cache)
        for bar in _bars(dataset, generations, embedder, cache, least_ndcg):
            if reached < bar.ndcg:
                raise IndexRejected(
                    f"the new generation reaches nDCG@10 {reached:.3f} on {dataset.name}, less than {bar.said}; "
                    "the current one stays"
                )

    return check


def _bars(
    dataset: Dataset, generations: Generations, embedder: Embedder, cache: EmbeddingCache, least_ndcg: float
) -> list[Bar]:
    bars = [Bar(least_ndcg, f"the {least_ndcg:.3f} asked for")]
    try:
        current = Generation.open_current(generations)
    except RetrievalError:
        return bars
    try:
        if current.about["embedder"] == embedder.name:
            before = _ndcg(current, dataset, embedder, cache)
            bars.append(Bar(before - _TOLERANCE, f"the current one's {before:.3f} by more than {_TOLERANCE}"))
    finally:
        current.close()
    return bars


def _ndcg(generation: Generation, dataset: Dataset, embedder: Embedder, cache: EmbeddingCache) -> float:
    outcomes: Sequence[Outcome] = ask(generation, dataset, embedder, cache, names=names_in(generation, dataset))
    return mean([one.scores for one in outcomes if one.scores is not None])["ndcg@10"]


def names_in(generation: Generation, dataset: Dataset) -> dict[str, str]:
    """The set's document for each page of a generation, by any of the page's addresses."""
    document = {address: name for name, address in dataset.address.items()}
    return {
        page.url: document[address]
        for page in generation.pages
        for address in (page.url, *page.urls)
        if address in document
    }
