"""Workflows, batches, verdicts and feedback put together: their routes, and what runs in the background for them."""

import asyncio

from fastapi import FastAPI

from engine.gateway.advanced import batch_routes, journal_routes, longprompts, workflows
from engine.gateway.advanced.asker import Asker
from engine.gateway.advanced.batch_runner import BatchRunner
from engine.gateway.advanced.batch_store import BatchStore
from engine.gateway.advanced.tribunal_model import TribunalModel
from engine.gateway.keys import Key, Keys
from engine.gateway.metrics import Counts
from engine.gateway.records.journal import Journal
from engine.gateway.records.recording import Recorder
from engine.settings import Settings


class Advanced:
    """What the gateway offers beyond passing a request on."""

    def __init__(
        self,
        asker: Asker,
        keys: Keys,
        settings: Settings,
        counts: Counts,
        recorder: Recorder,
        fixed: tuple[Key, ...] = (),
    ) -> None:
        """`counts` and `recorder` are told of outcomes and of workflows that fell back to the plain model.

        `fixed` are keys that stand in no database and may own batches, too.
        """
        self._keys, self._fixed = keys, {key.id: key for key in fixed}
        self._journal = Journal(settings.database_url)
        self.workflows = workflows.Workflows(asker, self._journal, settings.templates / "laws", counts, recorder)
        self.tribunal_model = TribunalModel(self.workflows)
        self._store = BatchStore(settings.local / "batches", settings.keep_days)
        self._runner = BatchRunner(self._store, asker, self._key)

    def include(self, api: FastAPI) -> None:
        api.include_router(workflows.router(self.workflows))
        api.include_router(longprompts.router(self.workflows))
        api.include_router(batch_routes.router(self._store, self._runner))
        api.include_router(journal_routes.router(self._journal))

    def start(self) -> None:
        """Begins to run batches; needs a running loop."""
        self._runner.start()

    async def stop(self) -> None:
        await self._runner.stop()
        await asyncio.to_thread(self._journal.close)

    def _key(self, id: str) -> Key | None:
        if id in self._fixed:
            return self._fixed[id]
        return next((key for key in self._keys.list() if key.id == id and key.revoked_at is None), None)
