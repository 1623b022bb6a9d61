"""`python -m rag search`: what the chatbot would be given for a question."""

from dataclasses import asdict
from typing import Annotated, get_args

import orjson
import typer

from engine.terminal import Json
from rag.commands.build import Index
from rag.commands.local import settings
from rag.retrieve.passage import Found, Way
from rag.retrieve.retriever import Retriever, index_folder


def search(
    question: Annotated[str, typer.Argument(help="In German or English.")],
    limit: Annotated[int, typer.Option(min=1, max=50, help="So many passages.")] = 6,
    way: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Way))}.")] = "hybrid",
    language: Annotated[str | None, typer.Option(help="de or en; default: as the question reads.")] = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Search the index: passages with their source, and whether they can answer."""
    retriever = Retriever.open(index or index_folder(settings()))
    try:
        found = retriever.search(question, language=language, limit=limit, way=way)  # type: ignore[arg-type]
    finally:
        retriever.close()
    if as_json:
        print(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)


def _show(found: Found) -> None:
    gate = found.gate
    verdict = "can answer" if gate.answers else "cannot answer: the chatbot would refuse"
    print(f"gate {gate.score:.2f} (threshold {gate.threshold:.2f}): {verdict}")
    for number, passage in enumerate(found.passages, start=1):
        date = f", {passage.date.isoformat()}" if passage.date else ""
        print(f"\n{number}. {passage.score:.2f}  {' > '.join((passage.title, *passage.heading_path))}")
        print(f"   {passage.url} ({passage.language}, {passage.kind}{date})")
        print("   " + passage.text.replace("\n", "\n   "))
