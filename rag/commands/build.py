"""`python -m rag build`: a new generation from what was crawled; `generations` and `rollback`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from engine.errors import CrawlError
from engine.settings import Settings
from engine.terminal import Json, print_json, print_table, say
from rag.commands.local import settings
from rag.crawl.store import kept
from rag.evaluate.beir import load
from rag.evaluate.regression import regression_check
from rag.index.building import build as build_generation
from rag.index.cache import EmbeddingCache
from rag.index.embed import embedder_named
from rag.index.generations import KEEP, Generations
from rag.index.quality import lines_of, quality_of
from rag.index.reading import read
from rag.retrieve.retriever import index_folder

Index = Annotated[Path | None, typer.Option("--index", help="The index's folder; default ENGINE_LOCAL/index.")]


def build(
    crawls: Annotated[list[str] | None, typer.Argument(help="Names of crawls; default all.")] = None,
    index: Index = None,
    questions: Annotated[
        Path | None, typer.Option(help="A BEIR folder that the new generation must answer as well as the current one.")
    ] = None,
    least_ndcg: Annotated[float, typer.Option(help="With --questions: the nDCG@10 that it must reach.")] = 0.0,
    embeddings: Annotated[str, typer.Option(help="A model of the engine that embeds; default the packaged one.")] = "",
    vectors: Annotated[
        list[Path] | None, typer.Option(help="Embeddings that are known already (.npz of keys and vectors).")
    ] = None,
    shrink: Annotated[bool, typer.Option(help="Also when more than half of the chunks have gone.")] = False,
    keep: Annotated[int, typer.Option(min=1, help="So many generations are kept.")] = KEEP,
    as_json: Json = False,
) -> None:
    """Index what was crawled: a new generation, made current when it is whole."""
    chosen = settings()
    generations = Generations(index or index_folder(chosen))
    embedder = embedder_named(embeddings, os.environ)
    cache = EmbeddingCache(chosen.local / "embeddings.db", vectors or ())
    pages = read(one for folder in crawl_folders(chosen, crawls or []) for one in kept(folder))
    check = regression_check(load(questions), generations, embedder, cache, least_ndcg) if questions else None
    built = build_generation(
        generations, pages.pages, embedder, cache, progress=_say, check=check, shrink=shrink, keep=keep
    )
    quality = quality_of(pages)
    (generations.folder / "quality.json").write_bytes(orjson.dumps(quality.to_json()))
    if as_json:
        print_json({**asdict(built), "quality": quality.to_json()})
        return
    print("\n".join(lines_of(quality)))
    print(
        f"{built.name} is current: {built.chunks} chunks of {built.pages} pages, {built.embedded} embedded anew, "
        f"{built.bytes / 1e6:.1f} MB, {sum(built.seconds.values()):.1f} s"
    )


def generations(index: Index = None, as_json: Json = False) -> None:
    """List the generations of the index."""
    known = Generations(index or index_folder(settings()))
    current = known.current()
    rows = [
        {"name": name, "current": name == current, **orjson.loads((known.path(name) / "generation.json").read_bytes())}
        for name in known.names()
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        ("*" if row["current"] else "", row["name"], row["built"], row["pages"], row["chunks"], row["embedder"])
        for row in rows
    ]
    print_table(("CURRENT", "NAME", "BUILT", "PAGES", "CHUNKS", "EMBEDDER"), shown, "no generation was built yet")


def rollback(index: Index = None) -> None:
    """Make the generation before the current one current again."""
    known = Generations(index or index_folder(settings()))
    print(f"{known.rollback()} is current")


def crawl_folders(chosen: Settings, names: list[str]) -> list[Path]:
    """The folders of these crawls, or of all; raises CrawlError when there is none."""
    root = chosen.local / "crawl"
    known = sorted(path.parent for path in root.glob("*/frontier.db"))
    wanted = [root / name for name in names] if names else known
    missing = [path.name for path in wanted if path not in known]
    if missing or not wanted:
        listed = ", ".join(path.name for path in known) or "none"
        what = f"no crawl is named {missing[0]!r}" if missing else "nothing was crawled"
        raise CrawlError(f"{what} in {root} (there are: {listed}); `python -m rag crawl URL` crawls a site")
    return wanted


def _say(done: int, whole: int) -> None:
    say(f"embedded {done} of {whole} new chunks")
