"""`python -m tests.university.vectors` embeds the question set again; a test says when that must be. Takes minutes."""

from collections.abc import Iterator

from rag.evaluate.beir import Dataset, load
from rag.index.chunk import chunks_of
from rag.index.embed import E5, Embedder
from rag.index.shipping import ship
from tests.university.build import FOLDER

VECTORS = FOLDER / "vectors.npz"


def texts(dataset: Dataset, embedder: Embedder) -> Iterator[str]:
    """What is embedded of the set's pages."""
    return (chunk.embedded for page in dataset.pages for chunk in chunks_of(page, embedder.count))


def main(embedder: Embedder | None = None) -> None:
    embedder = embedder or E5()
    dataset = load(FOLDER)
    ship(VECTORS, embedder, texts(dataset, embedder), [query.text for query in dataset.queries])


if __name__ == "__main__":
    main()
