"""The texts that workflows send to models, from templates/prompts. Whatever is not ours stands quoted in them."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.settings import ROOT


@dataclass(frozen=True)
class Prompts:
    """Templates of a folder; in them `{{ text | quoted("draft") }}` sets a text apart as data."""

    folder: Path = ROOT / "templates" / "prompts"

    def render(self, name: str, **values: Any) -> str:
        return _environment(self.folder).get_template(f"{name}.j2").render(**values).strip()


PROMPTS = Prompts()


@functools.cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["quoted"] = quoted
    return environment


def quoted(text: str, what: str) -> str:
    """`text` between marks that it cannot hold itself, so that nothing in it can end the quotation.

    The mark is made of the text, not of chance: the same draft gives the same prompt, which an engine has in its cache.
    """
    mark = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
    while mark in text:
        mark = hashlib.sha256(mark.encode()).hexdigest()[:12]
    return f'<{what} id="{mark}">\n{text}\n</{what} id="{mark}">'
