"""The generations of an index: folders beside each other, one of them current.

    current                 the name of the current one, replaced by rename
    writer.lock             held by whoever builds
    generations/g0007/      chroma/  vectors.npy  rows.npz  lexical.npz  pages.json  probes.npz  generation.json
                            in-use (locked by its readers)
    generations/.building/  what a build that was killed leaves; the next one removes it

A generation that has become current is never written again, so that any number of processes may read it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import Conflict, IndexMissing, IndexRejected

KEEP = 3


class Generations:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pointer = folder / "current"
        self._all = folder / "generations"

    def current(self) -> str:
        """The current generation's name; raises IndexMissing when none was ever built."""
        try:
            return self._pointer.read_text().strip()
        except FileNotFoundError as error:
            raise IndexMissing(
                f"there is no index in {self.folder}; `python -m rag build` makes one from what was crawled"
            ) from error

    def about(self) -> dict[str, Any]:
        """What the current generation tells of itself; raises IndexMissing, and IndexRejected when it is broken."""
        path = self.path(self.current()) / "generation.json"
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IndexRejected(f"{path} cannot be read: {error}; roll back, or build the index again") from error
        return told

    def stamp(self) -> tuple[int, int]:
        """Changes whenever another generation is made current; costs one system call."""
        try:
            told = self._pointer.stat()
        except FileNotFoundError:
            return (0, 0)
        return (told.st_mtime_ns, told.st_ino)

    def names(self) -> list[str]:
        """The finished generations, oldest first."""
        found = [path.name for path in self._all.glob("g*") if path.is_dir()]
        return sorted(found, key=lambda name: int(name[1:]))

    def path(self, name: str) -> Path:
        return self._all / name

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Holds the writer's lock and gives an empty folder to build in; raises Conflict when somebody else builds.

        The lock ends with its process, however that ends.
        """
        self._all.mkdir(parents=True, exist_ok=True)
        with (self.folder / "writer.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another process builds the index in {self.folder}; wait until it has ended") from error
            building = self._all / ".building"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            yield building
            shutil.rmtree(building, ignore_errors=True)

    def next_name(self) -> str:
        names = self.names()
        return f"g{int(names[-1][1:]) + 1 if names else 1:04d}"

    def finish(self, building: Path, name: str) -> None:
        """Gives a closed, checked generation its name, and makes it current in one step."""
        building.rename(self.path(name))
        self.make_current(name)

    def make_current(self, name: str) -> None:
        """Raises IndexRejected when there is no such generation."""
        if not (self.path(name) / "generation.json").is_file():
            listed = ", ".join(self.names()) or "none"
            raise IndexRejected(f"there is no generation {name!r} in {self.folder}; there are: {listed}")
        temporary = self._pointer.with_name(f"current.{os.getpid()}.tmp")
        temporary.write_text(f"{name}\n")
        temporary.replace(self._pointer)

    def rollback(self) -> str:
        """Makes the one before the current generation current; raises IndexRejected when there is none."""
        current = self.current()
        before = [name for name in self.names() if int(name[1:]) < int(current[1:])]
        if not before:
            raise IndexRejected(f"{current} is the oldest generation in {self.folder}; there is none to go back to")
        self.make_current(before[-1])
        return before[-1]

    def prune(self, keep: int = KEEP) -> list[str]:
        """Removes all but the last `keep` generations; one that is current or still read stays. Returns what went."""
        gone = []
        for name in self.names()[:-keep]:
            if name != self.current() and self._remove(name):
                gone.append(name)
        return gone

    def _remove(self, name: str) -> bool:
        with (self.path(name) / "in-use").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            doomed = self._all / f".gone-{name}"
            self.path(name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        return True
