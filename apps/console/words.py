"""Times, sizes and amounts in words (pure)."""

from datetime import UTC, datetime

UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float | None) -> str:
    """`45 s`, `5 min`, `3 h`, `2 d`; a dash for None."""
    if seconds is None:
        return "–"
    for size, unit in UNITS:
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.2g} s"


def moment(text: str | None) -> datetime | None:
    """A time as the gateway writes it."""
    return datetime.fromisoformat(text) if text else None


def clock(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC" if at else "never"


def date_time(text: str | None) -> str:
    """A time as the gateway writes it, to the second: `2026-11-28 14:03:22`."""
    return text[:19].replace("T", " ") if text else "–"


def ago(text: str | None, now: datetime) -> str:
    at = moment(text)
    return f"{span(max(0.0, (now - at).total_seconds()))} ago" if at else "–"


def ahead(text: str | None, now: datetime) -> str:
    """How far off it is, or `over`."""
    at = moment(text)
    if at is None:
        return "–"
    left_s = (at - now).total_seconds()
    return f"in {span(left_s)}" if left_s > 0 else "over"


def amount(number: float | None) -> str:
    """`950`, `12.3k`, `4.56M`."""
    if number is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{number:.3g}" if isinstance(number, float) and number != int(number) else f"{number:.0f}"


def seconds(value: float | None) -> str:
    """A latency: `35 ms`, `1.24 s`; a dash for None."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.3g} s"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.3g} %"


def many(count: int, what: str, more: str = "") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {more or what + 's'}"
