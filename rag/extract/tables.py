"""Tables as lines that can be read alone: "Monday: Opens: 8:00; Closes: 20:00"."""

from bs4 import Tag

from rag.extract.text import one_line

Cell = tuple[str, bool]
# Wider or longer than this is a mistake in a colspan, not a table.
_MOST_COLUMNS = 60
_MOST_SPAN = 500


def rows_of(table: Tag) -> list[str]:
    """A table's rows, each cell with its column's header; a header in front of a row leads it."""
    grid = _grid(table)
    if not grid:
        return []
    headed = len(grid) > 1 and all(is_header for text, is_header in grid[0] if text)
    heads = [text for text, _ in grid[0]] if headed else []
    lines = [_line(row, heads) for row in (grid[1:] if headed else grid)]
    return [line for line in lines if line]


def caption_of(table: Tag) -> str:
    caption = table.find("caption", recursive=False)
    return one_line(caption) if isinstance(caption, Tag) else ""


def is_layout(table: Tag) -> bool:
    """Whether a table only places things, so that its cells are read like other containers."""
    if table.get("role") in ("presentation", "none"):
        return True
    if table.find(["table", "h1", "h2", "h3", "h4"]):
        return True
    rows = table.find_all("tr")
    return len(rows) < 2 and not table.find("th") and len(table.find_all("td")) < 2


def _line(row: list[Cell], heads: list[str]) -> str:
    cells = list(row)
    lead = cells[0][0]
    led = bool(lead) and (cells[0][1] or len(cells) > 1)
    rest = list(zip(heads[1:] if heads else [""] * len(cells), cells[1:], strict=False)) if led else []
    if not led:
        rest = list(zip(heads or [""] * len(cells), cells, strict=False))
    told: list[str] = []
    for head, (text, _) in rest:
        one = f"{head}: {text}" if head and head != text else text
        if text and one not in told:
            told.append(one)
    if not led:
        return "; ".join(told)
    first = f"{heads[0]}: {lead}" if heads and heads[0] and len(heads) > 2 else lead
    return f"{first}: {'; '.join(told)}" if told else first


def _grid(table: Tag) -> list[list[Cell]]:
    """The cells by row and column, with those that span several written into each."""
    grid: list[list[Cell]] = []
    below: dict[int, tuple[int, Cell]] = {}
    for row in table.find_all("tr"):
        cells: list[Cell] = []
        for cell in row.find_all(["td", "th"], recursive=False):
            _fill_from_above(cells, below)
            value = (one_line(cell), cell.name == "th")
            for _ in range(min(_span(cell, "colspan"), _MOST_COLUMNS)):
                if (rows := _span(cell, "rowspan")) > 1:
                    below[len(cells)] = (rows, value)
                cells.append(value)
        _fill_from_above(cells, below)
        below = {column: (left - 1, value) for column, (left, value) in below.items() if left > 1}
        if any(text for text, _ in cells):
            grid.append(cells[:_MOST_COLUMNS])
    return grid


def _fill_from_above(cells: list[Cell], below: dict[int, tuple[int, Cell]]) -> None:
    while len(cells) in below and below[len(cells)][0] > 0 and len(cells) < _MOST_COLUMNS:
        cells.append(below[len(cells)][1])


def _span(cell: Tag, name: str) -> int:
    text = str(cell.get(name, "1")).strip()
    return min(int(text), _MOST_SPAN) if text.isdecimal() and int(text) > 0 else 1
