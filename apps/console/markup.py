"""Small pieces of HTML that the console draws itself (pure). Every text is escaped here and nowhere else."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

TONES = {
    "ready": "good", "running": "good", "yes": "good", "ok": "good", "active": "good", "idle": "idle",
    "loading": "busy", "starting": "busy", "queued": "busy", "draining": "warn", "silent": "warn", "warn": "warn",
    "failed": "bad", "failing": "bad", "bad": "bad", "no": "bad", "revoked": "idle", "stopped": "idle",
}  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """A number with its name; `tone` is one of theme.COLOURS, or nothing."""

    name: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Step:
    """A step of a launch: `state` is done, now, failed or to come."""

    name: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class Share:
    """A part of a bar."""

    name: str
    count: float
    tone: str


@dataclass(frozen=True)
class Word:
    """A state in words and colour."""

    text: str
    tone: str = ""

    @property
    def html(self) -> str:
        return f'<span class="e-word e-{self.tone or TONES.get(self.text, "idle")}">{escape(self.text)}</span>'


@dataclass(frozen=True)
class Column:
    """Of a table; `number` stands right, `long` may break."""

    name: str
    number: bool = False
    long: bool = False


Cell = str | int | float | None | Word


def tiles(found: Iterable[Tile]) -> str:
    return f'<div class="e-tiles">{"".join(map(_tile, found))}</div>'


def items(found: Iterable[tuple[str, str, str]]) -> str:
    """Tone, what it is, and what can be done about it."""
    parts = (
        f'<div class="e-item e-{tone}"><div>{_prose(what)}</div><div class="action">{_prose(action)}</div></div>'
        for tone, what, action in found
    )
    return f'<div class="e-list">{"".join(parts)}</div>'


def bar(shares: Sequence[Share], unit: str = "") -> str:
    """A bar with its legend in words; shares of zero are in the legend alone."""
    total = sum(share.count for share in shares) or 1
    parts = "".join(f'<i class="e-{s.tone}" style="width:{100 * s.count / total:.2f}%"></i>' for s in shares if s.count)
    legend = "".join(f'<span class="e-word e-{s.tone}">{s.count:g} {escape(s.name)}{unit}</span>' for s in shares)
    return f'<div class="e-bar">{parts}</div><div class="e-legend">{legend}</div>'


def named(name: str, markup: str) -> str:
    """A name above something that is markup already."""
    return f"<div><b>{escape(name)}</b>{markup}</div>"


def steps(found: Iterable[Step]) -> str:
    tones = {"done": "good", "now": "busy", "failed": "bad"}
    parts = (
        f'<li class="e-{tones.get(step.state, "idle")}"><span class="e-word e-{tones.get(step.state, "idle")}">'
        f'{escape(step.name)}</span><div class="note">{escape(step.note)}</div></li>'
        for step in found
    )
    return f'<ol class="e-steps">{"".join(parts)}</ol>'


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> str:
    """For some dozens of rows; more belong into a frame."""
    head = "".join(f"<th{_class(column)}>{escape(column.name)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td{_class(c)}>{_cell(cell)}</td>' for c, cell in zip(columns, row, strict=True))}</tr>"
        for row in rows
    )
    return (
        f'<div class="e-wide"><table class="e-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _prose(text: str) -> str:
    """What stands between backquotes is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _tile(tile: Tile) -> str:
    return (
        f'<div class="e-tile e-{tile.tone or "none"}"><div class="name">{escape(tile.name)}</div>'
        f'<div class="value">{escape(tile.value)}</div><div class="note">{escape(tile.note)}</div></div>'
    )


def _class(column: Column) -> str:
    kinds = " ".join(name for name, on in (("number", column.number), ("long", column.long)) if on)
    return f' class="{kinds}"' if kinds else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, Word):
        return cell.html
    return "–" if cell is None or cell == "" else escape(str(cell))
