"""A generation as its readers see it: files written by the build, opened together, let go together."""

import fcntl
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date as Date
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexMissing, IndexRejected
from rag.index.generations import Generations
from rag.index.store import Store
from rag.retrieve import lexical
from rag.retrieve.gate import Calibration, Probes
from rag.retrieve.lexical import Lexical

_TRIES = 3


@dataclass(frozen=True)
class PageRecord:
    """What a generation knows of a page.

    `group` is the same for a page and its twins in other languages, `twins_here` are those languages in which the index
    has it as well.
    """

    url: str
    urls: tuple[str, ...]
    title: str
    language: str
    date: Date | None
    twins: Mapping[str, str]
    group: int
    twins_here: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"date": self.date.isoformat() if self.date else None}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "PageRecord":
        date = Date.fromisoformat(told["date"]) if told["date"] else None
        tuples = {name: tuple(told[name]) for name in ("urls", "twins_here")}
        return cls(**{**told, **tuples, "date": date})


@dataclass(frozen=True)
class Rows:
    """One entry a chunk, in the order of the vectors; a page's chunks lie beside each other."""

    ids: NDArray[np.str_]
    page: NDArray[np.int32]
    section: NDArray[np.int32]
    is_german: NDArray[np.bool_]
    is_contact: NDArray[np.bool_]

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> "Rows":
        with np.load(path) as stored:
            return cls(**{name: stored[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Generation:
    name: str
    about: Mapping[str, Any]
    rows: Rows
    pages: tuple[PageRecord, ...]
    vectors: NDArray[np.float32]
    lexical: Lexical
    probes: Probes
    calibration: Calibration
    store: Store
    row_of: Mapping[str, int]
    page_of: Mapping[str, PageRecord]
    in_use: IO[str] | None

    @classmethod
    def open_current(cls, generations: Generations) -> "Generation":
        """The current generation, held so that nobody removes it; raises IndexMissing or IndexRejected."""
        for _ in range(_TRIES):
            name = generations.current()
            if (in_use := _hold(generations.path(name))) is not None:
                try:
                    return cls.open(generations.path(name), name, in_use)
                except BaseException:
                    in_use.close()
                    raise
        raise IndexMissing(f"the index in {generations.folder} goes away while it is opened; `python -m rag build`")

    @classmethod
    def open(cls, folder: Path, name: str = "", in_use: IO[str] | None = None) -> "Generation":
        try:
            about = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
            rows = Rows.load(folder / "rows.npz")
            pages = tuple(map(PageRecord.from_json, json.loads((folder / "pages.json").read_text(encoding="utf-8"))))
            vectors = np.load(folder / "vectors.npy", mmap_mode="r")
            words = lexical.load(folder / "lexical.npz")
            probes = Probes.load(folder / "probes.npz")
            calibration = Calibration(**about["gate"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexRejected(
                f"{folder} is no whole generation of this version ({error!r}); roll back, or build again"
            ) from error
        return cls(
            name=name or folder.name,
            about=about,
            rows=rows,
            pages=pages,
            vectors=vectors,
            lexical=words,
            probes=probes,
            calibration=calibration,
            store=Store.open(folder / "chroma"),
            row_of={str(one): row for row, one in enumerate(rows.ids)},
            page_of={page.url: page for page in pages},
            in_use=in_use,
        )

    def close(self) -> None:
        self.store.close()
        if self.in_use is not None:
            self.in_use.close()


def _hold(folder: Path) -> IO[str] | None:
    """A shared lock on a generation; None when it was removed just now."""
    try:
        held = (folder / "in-use").open("a")
    except FileNotFoundError:
        return None
    fcntl.flock(held, fcntl.LOCK_SH)
    if not (folder / "generation.json").is_file():
        held.close()
        return None
    return held
