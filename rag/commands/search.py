"""`python -m rag search`: what the chatbot would be given for a question."""

import os
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, get_args

import orjson
import typer

from engine.terminal import Json
from rag.answer.rerank import reranker_named
from rag.commands.build import Index
from rag.commands.local import settings
from rag.retrieve.passage import Found, Way
from rag.retrieve.retriever import Retriever, index_folder


def search(
    question: Annotated[str, typer.Argument(help="In German or English.")],
    limit: Annotated[int, typer.Option(min=1, max=50, help="So many passages.")] = 6,
    way: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Way))}.")] = "hybrid",
    language: Annotated[str | None, typer.Option(help="de or en; default: as the question reads.")] = None,
    rerank: Annotated[str, typer.Option(help="A model of the engine that puts the best ten in order.")] = "",
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Search the index: passages with their source, and whether they can answer."""
    retriever = Retriever.open(index or index_folder(settings()))
    with closing(retriever), reranker_named(rerank, os.environ) as reranker:
        found = retriever.search(question, language=language, limit=limit, way=way, rerank=reranker)  # type: ignore[arg-type]
    if as_json:
        print(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)


def _show(found: Found) -> None:
    gate = found.gate
    verdict = "can answer" if gate.answers else "cannot answer: the chatbot would refuse"
    print(f"gate {gate.score:.2f} (threshold {gate.threshold:.2f}): {verdict}")
    if second := found.reranking:
        print(f"reranked by {second.model}" if second.done else f"not reranked: {second.reason}")
    for number, passage in enumerate(found.passages, start=1):
        date = f", {passage.date.isoformat()}" if passage.date else ""
        print(f"\n{number}. {passage.score:.2f}  {' > '.join((passage.title, *passage.heading_path))}")
        print(f"   {passage.url} ({passage.language}, {passage.kind}{date})")
        print("   " + passage.text.replace("\n", "\n   "))
