"""sample: the index of the made-up university that comes with the engine."""

from pathlib import Path
from typing import Annotated

import typer

from engine.errors import Conflict, IndexMissing
from rag import sample as shipped
from rag.commands.build import Index
from rag.commands.local import settings
from rag.index.generations import Generations
from rag.retrieve.retriever import index_folder


def sample(
    index: Index = None,
    instead: Annotated[bool, typer.Option(help="Also in place of an index that is there.")] = False,
) -> None:
    """Index a made-up university, to try everything out without a crawl; it takes seconds and no network."""
    folder = index or index_folder(settings())
    if not instead and _is_there(folder):
        raise Conflict(f"there is an index in {folder} already; --instead puts the sample in its place")
    built = shipped.build_sample(folder)
    seconds = sum(built.seconds.values())
    print(f"{built.name} is current: {built.chunks} chunks of {built.pages} made-up pages, {seconds:.1f} s")


def _is_there(folder: Path) -> bool:
    try:
        Generations(folder).current()
    except IndexMissing:
        return False
    return True
