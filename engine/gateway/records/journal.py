"""What is kept of workflows and of what people say: verdicts of tribunals, feedback on answers."""

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from engine.gateway.records.database import connect, told
from engine.gateway.records.masking import mask

metadata = sa.MetaData()


def _table(name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("at", sa.String(32), nullable=False, index=True),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False, index=True),
        sa.Column("record", sa.Text, nullable=False),
    )


VERDICTS = _table("verdicts")
FEEDBACK = _table("feedback")
# Outcomes of a tribunal, and what people can say.
ACCEPTED, REJECTED, BYPASSED = "accepted", "rejected", "bypassed"
KINDS = ("like", "dislike", "refused")


class Journal:
    """Verdicts and feedback in the database, forgotten after `keep_days`. Every method blocks: call it in a thread."""

    def __init__(self, url: str, keep_days: int = 365) -> None:
        self._keep_days = keep_days
        self._url = url
        self._day = ""
        with self._told():
            self._engine = connect(url, metadata)

    def add_verdict(self, key_id: str, record: Mapping[str, Any]) -> str:
        """Writes a tribunal's outcome down; returns its id. `record` has `accepted` and `bypassed`, and no prompts."""
        return self._add(VERDICTS, key_id, outcome(record), dict(record))

    def verdicts(self, limit: int = 100, outcome: str | None = None, model: str | None = None) -> list[dict[str, Any]]:
        """The latest first."""
        rows = self._rows(VERDICTS, limit if model is None else None, outcome)
        return [row for row in rows if model is None or row.get("model") == model][:limit]

    def verdict_counts(self, since: datetime, model: str | None = None) -> dict[str, Any]:
        """Outcomes since then, in all and by model, with how often each law was found violated in a first answer."""
        wanted = sa.select(VERDICTS.c.kind, VERDICTS.c.record).where(VERDICTS.c.at >= _text(since))
        outcomes, by_model, laws = Counter[str](), dict[str, Counter[str]](), Counter[str]()
        with self._told(), self._engine.connect() as connection:
            for kind, text in connection.execute(wanted):
                record = json.loads(text)
                if model is None or record.get("model") == model:
                    outcomes[kind] += 1
                    by_model.setdefault(str(record.get("model")), Counter())[kind] += 1
                    laws.update(next(iter(record.get("violated") or ()), ()))
        return {
            **_outcomes(outcomes),
            "models": [{"model": name, **_outcomes(counts)} for name, counts in sorted(by_model.items())],
            "laws": [{"law": law, "violated": n} for law, n in laws.most_common()],
        }

    def add_feedback(self, key_id: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Masks every text of a feedback and writes it down; returns what was written."""
        masked = {name: _masked(value) for name, value in record.items()}
        id = self._add(FEEDBACK, key_id, str(record["kind"]), masked)
        return {"id": id, **masked}

    def feedback(self, limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """The latest first."""
        return list(self._rows(FEEDBACK, limit, kind))

    def feedback_counts(self, since: datetime) -> dict[str, int]:
        """How often each kind was said since then."""
        kind, at = FEEDBACK.c.kind, FEEDBACK.c.at
        wanted = sa.select(kind, sa.func.count()).where(at >= _text(since)).group_by(kind)
        with self._told(), self._engine.connect() as connection:
            found = {str(name): int(count) for name, count in connection.execute(wanted)}
        return {name: found.get(name, 0) for name in KINDS}

    def close(self) -> None:
        self._engine.dispose()

    def _add(self, table: sa.Table, key_id: str, kind: str, record: dict[str, Any]) -> str:
        id, at = secrets.token_hex(8), _text(datetime.now(UTC))
        values = {"id": id, "at": at, "key_id": key_id, "kind": kind, "record": json.dumps(record)}
        with self._told(), self._engine.begin() as connection:
            connection.execute(table.insert().values(values))
            if at[:10] != self._day:
                self._forget(connection)
                self._day = at[:10]
        return id

    def _forget(self, connection: sa.Connection) -> None:
        before = _text(datetime.now(UTC) - timedelta(days=self._keep_days))
        for table in (VERDICTS, FEEDBACK):
            connection.execute(table.delete().where(table.c.at < before))

    def _rows(self, table: sa.Table, limit: int | None, kind: str | None) -> Iterator[dict[str, Any]]:
        wanted = sa.select(table).order_by(table.c.at.desc(), table.c.id).limit(limit)
        if kind is not None:
            wanted = wanted.where(table.c.kind == kind)
        with self._told(), self._engine.connect() as connection:
            for row in connection.execute(wanted):
                yield {"id": row.id, "at": row.at, "key_id": row.key_id, **json.loads(row.record)}

    def _told(self) -> AbstractContextManager[None]:
        return told("journal", self._url)


def outcome(record: Mapping[str, Any]) -> str:
    """Of a verdict's record: accepted, rejected, or bypassed where nobody judged."""
    accepted = record.get("accepted")
    return BYPASSED if accepted is None else ACCEPTED if accepted else REJECTED


def _outcomes(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in (ACCEPTED, REJECTED, BYPASSED)}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(one) for one in value]
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    return value


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
