"""Runs a set of questions through a generation, in several settings, and says how well each does."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag.evaluate.beir import Dataset, Query
from rag.evaluate.metrics import METRICS, Scores, auroc, interval, mean, of_query
from rag.index.building import build
from rag.index.cache import EmbeddingCache, Progress
from rag.index.embed import Embedder, Vectors
from rag.index.generations import Generations
from rag.retrieve import compose
from rag.retrieve.generation import Generation
from rag.retrieve.passage import WAYS, Reranker, Reranking, Way
from rag.retrieve.rank import Ranked, rank
from rag.retrieve.retriever import RERANKED

_DIGITS = 4
# So many questions are reranked at the same time.
_AT_ONCE = 8


@dataclass(frozen=True)
class Outcome:
    """One query in one setting: ranked documents, metrics (None when unanswerable), the gate's score, and time.

    `reranking` is None where no model was asked.
    """

    query: Query
    ranked: tuple[str, ...]
    scores: Scores | None
    gate_score: float
    ms: float
    reranking: Reranking | None = None


def evaluate(
    dataset: Dataset,
    folder: Path,
    embedder: Embedder,
    cache: EmbeddingCache,
    ways: Sequence[Way] = WAYS,
    progress: Progress | None = None,
    rerank: Reranker | None = None,
) -> dict[str, Any]:
    """Indexes the set's documents in `folder` and asks its queries in each way. Returns the report, ready for JSON.

    With `rerank` one more setting, `reranked`, is the hybrid's ten best documents in the reranker's order.
    """
    generations = Generations(folder)
    built = build(generations, dataset.pages, embedder, cache, progress=progress, shrink=True, keep=1)
    generation = Generation.open_current(generations)
    try:
        outcomes = {way: ask(generation, dataset, embedder, cache, way) for way in ways}
        told: dict[str, Any] = {way: report(one, dataset) for way, one in outcomes.items()}
        if rerank:
            again = ask(generation, dataset, embedder, cache, rerank=rerank)
            told["reranked"] = report(again, dataset) | told_of(rerank, again)
        gate = outcomes.get("hybrid") or outcomes[ways[0]]
        refused = refusal(gate, generation.calibration.threshold)
    finally:
        generation.close()
    return {
        "folder": dataset.name,
        "documents": len(dataset.pages),
        "chunks": built.chunks,
        "queries": len(dataset.queries),
        "embedder": embedder.name,
        "settings": told,
        **({"refusal": refused} if refused else {}),
    }


def ask(
    generation: Generation,
    dataset: Dataset,
    embedder: Embedder,
    cache: EmbeddingCache,
    way: Way = "hybrid",
    names: Mapping[str, str] | None = None,
    rerank: Reranker | None = None,
) -> list[Outcome]:
    """The outcome of each query. `names` maps the generation's pages to the set's documents where they differ."""

    def one(query: Query, vector: Vectors) -> Outcome:
        return _ask(generation, query, vector, way, dataset.relevant.get(query.id, {}), names, rerank)

    vectors = cache.queries(embedder, [query.text for query in dataset.queries])
    if rerank is None:
        return [one(query, vector) for query, vector in zip(dataset.queries, vectors, strict=True)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, dataset.queries, vectors))


def _ask(
    generation: Generation,
    query: Query,
    vector: Vectors,
    way: Way,
    relevant: Mapping[str, int],
    names: Mapping[str, str] | None,
    rerank: Reranker | None,
) -> Outcome:
    start = time.perf_counter()
    found = rank(generation, query.text, vector, query.language, way)
    urls = [generation.pages[page].url for page in pages_of(generation, found)]
    told = None
    if rerank and query.kind == "answerable":
        urls, told = _reranked(generation, query.text, found, urls, rerank)
    ms = (time.perf_counter() - start) * 1000
    ranked = tuple(names.get(url, url) if names else url for url in urls)
    scores = of_query(ranked, relevant) if query.kind == "answerable" else None
    return Outcome(query, ranked, scores, generation.calibration.score(found.evidence), ms, told)


def _reranked(
    generation: Generation, question: str, found: Ranked, urls: list[str], rerank: Reranker
) -> tuple[list[str], Reranking]:
    """The first documents in the reranker's order, each judged by its best chunk, and the others as they were."""
    pages = generation.rows.page[found.rows]
    firsts = np.sort(np.unique(pages, return_index=True)[1])[:RERANKED]
    best = compose.of_rows(generation, found.rows[firsts].tolist(), found.scores[firsts].tolist())
    passages, told = rerank(question, best)
    return [*(passage.url for passage in passages), *urls[len(best) :]], told


def told_of(rerank: Reranker, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Who reranked, how many questions kept the hybrid order instead, and the most frequent reason."""
    kept = Counter(one.reranking.reason for one in outcomes if one.reranking and not one.reranking.done)
    return {"model": rerank.model, "kept": kept.total(), "reason": next((why for why, _ in kept.most_common(1)), "")}


def pages_of(generation: Generation, found: Ranked) -> list[int]:
    """Pages in the order of their best chunk."""
    return list(dict.fromkeys(int(page) for page in generation.rows.page[found.rows]))


def report(outcomes: Sequence[Outcome], dataset: Dataset) -> dict[str, Any]:
    """Means and intervals over all answerable queries, and by language: of one language, and across both."""
    language_of = {page.url: page.language for page in dataset.pages}

    def group(outcome: Outcome) -> str:
        languages = {language_of.get(one) for one in dataset.relevant.get(outcome.query.id, {})}
        return outcome.query.language if outcome.query.language in languages else "across"

    answerable = [outcome for outcome in outcomes if outcome.scores is not None]
    groups = {
        name: _means([one for one in answerable if group(one) == name])
        for name in sorted({group(one) for one in answerable})
    }
    return {
        **_means(answerable),
        "languages": groups,
        "ms_p50": round(float(np.median([one.ms for one in outcomes])), 2),
    }


def _means(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = [one.scores for one in outcomes if one.scores is not None]
    told: dict[str, Any] = {metric: round(value, _DIGITS) for metric, value in mean(rows).items()}
    for metric in METRICS:
        low, high = interval([row[metric] for row in rows])
        told[f"{metric}_interval"] = [round(low, _DIGITS), round(high, _DIGITS)]
    return told | {"queries": len(rows)}


def refusal(outcomes: Sequence[Outcome], threshold: float) -> dict[str, Any]:
    """How well the gate tells answerable from unanswerable questions; empty when there are none of the latter."""
    right = [one.gate_score for one in outcomes if one.scores is not None]
    kinds = sorted({one.query.kind for one in outcomes if one.scores is None})
    if not right or not kinds:
        return {}
    wrong = {kind: [one.gate_score for one in outcomes if one.query.kind == kind] for kind in kinds}
    every = [score for scores in wrong.values() for score in scores]
    return {
        "auroc": round(auroc(right, every), _DIGITS),
        "threshold": round(threshold, _DIGITS),
        "answered": _share(right, lambda score: score >= threshold),
        "refused": _share(every, lambda score: score < threshold),
        "kinds": {
            kind: {
                "auroc": round(auroc(right, scores), _DIGITS),
                "refused": _share(scores, lambda score: score < threshold),
                "queries": len(scores),
            }
            for kind, scores in wrong.items()
        },
    }


def _share(values: Sequence[float], holds: Callable[[float], bool]) -> float:
    return round(sum(map(holds, values)) / len(values), _DIGITS)
