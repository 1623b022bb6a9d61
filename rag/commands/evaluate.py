"""`python -m rag evaluate`: how well questions find their pages, settings side by side."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.terminal import Json, print_json, say
from rag.answer.rerank import reranker_named
from rag.commands.local import settings
from rag.evaluate.beir import load
from rag.evaluate.compare import evaluate as compare
from rag.evaluate.metrics import METRICS
from rag.index.cache import EmbeddingCache
from rag.index.embed import embedder_named


def evaluate(
    folder: Annotated[Path, typer.Argument(help="corpus.jsonl, queries.jsonl, qrels.tsv or qrels/test.tsv.")],
    split: Annotated[
        str, typer.Option(help="Only the queries of this split, or all; default test where the queries tell theirs.")
    ] = "",
    embeddings: Annotated[str, typer.Option(help="A model of the engine that embeds; default the packaged one.")] = "",
    vectors: Annotated[
        list[Path] | None, typer.Option(help="Embeddings that are known already (.npz of keys and vectors).")
    ] = None,
    rerank: Annotated[str, typer.Option(help="A model of the engine that puts the ten best in order.")] = "",
    as_json: Json = False,
) -> None:
    """Measure the settings on a BEIR-style folder, with 95 % intervals."""
    dataset = load(folder)
    dataset = dataset.chosen(split or ("test" if "test" in dataset.splits else "all"))
    embedder = embedder_named(embeddings, os.environ)
    cache = EmbeddingCache(settings().local / "embeddings.db", vectors or ())
    with tempfile.TemporaryDirectory(prefix="rag-evaluate-") as index, reranker_named(rerank, os.environ) as reranker:
        told = compare(dataset, Path(index), embedder, cache, progress=_say, rerank=reranker)
    if as_json:
        print_json(told)
    else:
        print("\n".join(lines_of(told)))


def lines_of(told: dict[str, Any]) -> list[str]:
    """The report for people: a line for each setting and group of languages."""
    lines = [f"{told['folder']}: {told['documents']} documents, {told['chunks']} chunks, {told['queries']} queries"]
    lines.append(f"{'setting':<9} {'group':<7} {'queries':>7}" + "".join(f"  {metric:<22}" for metric in METRICS))
    for name, setting in told["settings"].items():
        for group, means in (("all", setting), *setting["languages"].items()):
            cells = "".join(f"  {_cell(means, metric):<22}" for metric in METRICS)
            lines.append(f"{name:<9} {group:<7} {means['queries']:>7}{cells}".rstrip())
    if (second := told["settings"].get("reranked")) and second["kept"]:
        lines.append(f"reranked by {second['model']}: {second['kept']} questions kept the order; {second['reason']}")
    if refusal := told.get("refusal"):
        lines.append(f"gate: answers {refusal['answered']:.1%}, AUROC {refusal['auroc']:.3f}")
        for kind, one in refusal["kinds"].items():
            lines.append(f"  refuses {one['refused']:.1%} of {one['queries']} {kind} questions")
    return lines


def _cell(means: dict[str, Any], metric: str) -> str:
    low, high = means[f"{metric}_interval"]
    return f"{means[metric]:.3f} ({low:.3f}-{high:.3f})"


def _say(done: int, whole: int) -> None:
    say(f"embedded {done} of {whole} new texts")
