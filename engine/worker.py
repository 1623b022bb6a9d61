"""The worker of `engine serve`: the gateway on an asyncio loop, the controller in a thread beside it."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from types import FrameType

import uvicorn
import uvloop

from engine.capacity import Cards
from engine.catalogue import Catalogue
from engine.errors import ConfigurationError, EngineError
from engine.fleet.controller import Controller
from engine.fleet.deployments import Status
from engine.fleet.nginx import Nginx
from engine.fleet.schedulers.jobs import Scheduler
from engine.fleet.schedulers.local import LocalScheduler
from engine.fleet.schedulers.slurm import Slurm
from engine.gateway.app import create_app
from engine.gateway.keys import Keys
from engine.gateway.server import config
from engine.serve import LEAVING, LIFE_FD, NOTIFY_FD, SOCKET_FD, TOKEN
from engine.settings import Settings
from engine.site import Site

log = logging.getLogger(__name__)

# The one before may still be ending; it gives the lock up as soon as it is asked to leave.
WAIT_FOR_LOCK_S = 120.0
# Requests that had begun may take this long to end after SIGTERM.
GRACE_S = 600


class Gateway(uvicorn.Server):
    """uvicorn; on the first signal it also lets the next worker start and the next controller take over."""

    def __init__(self, config: uvicorn.Config, controller: Controller, notify: int) -> None:
        super().__init__(config)
        self._controller, self._notify = controller, notify

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            # A supervisor that is no more need not be told.
            with suppress(BrokenPipeError):
                os.write(self._notify, LEAVING)
            self._controller.shut_down()
        super().handle_exit(sig, frame)


# The jobs that we submit get our environment; these are no business of theirs.
OURS_ALONE = (TOKEN, SOCKET_FD, NOTIFY_FD, LIFE_FD, "ENGINE_DATABASE_URL")


def take(environ: MutableMapping[str, str]) -> dict[str, str]:
    """A copy of our environment, in which OURS_ALONE then stands no more: no job, no child learns it."""
    own = dict(environ)
    for name in OURS_ALONE:
        environ.pop(name, None)
    return own


def schedulers(settings: Settings) -> dict[str, Scheduler]:
    """What jobs can run on, the default first; raises ConfigurationError when the Slurm asked for does not answer."""
    local = LocalScheduler(settings.home / "local-scheduler")
    if settings.scheduler == "local":
        return {"local": local}
    if Slurm.available():
        return {"slurm": Slurm(), "local": local}
    if settings.scheduler == "slurm":
        raise ConfigurationError("Slurm is asked for, but sbatch and sinfo do not answer here; see `engine doctor`")
    return {"local": local}


def make_controller(settings: Settings, found: Mapping[str, Scheduler], nginx: bool) -> Controller:
    return Controller(
        settings,
        Site.load(settings.site_file),
        Catalogue.load(settings.models_file),
        found,
        nginx=Nginx(settings.home / "nginx") if nginx else None,
        gateway=f"127.0.0.1:{settings.port}" if nginx else None,
        max_conns=bounds(Cards(settings.home)),
    )


def bounds(cards: Cards) -> Callable[[Sequence[Status]], Mapping[str, int]]:
    """What NGINX may give to a replica, by the capacity cards of this moment."""

    def of(statuses: Sequence[Status]) -> Mapping[str, int]:
        try:
            cards.refresh()
        except OSError as error:
            log.warning("capacity cards stay as they are: %s", error)
        return {status.deployment.name: cards.max_conns(status.deployment) for status in statuses}

    return of


def main(environ: Mapping[str, str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_env(environ)
    controller = make_controller(settings, schedulers(settings), bool(environ.get("ENGINE_NGINX")))
    app = create_app(controller, Keys(settings.database_url), settings, environ[TOKEN])
    server = Gateway(config(app, drain_s=GRACE_S), controller, int(environ[NOTIFY_FD]))
    thread = threading.Thread(target=_control, args=(controller, server), name="controller")
    thread.start()
    threading.Thread(target=_leave_with_the_supervisor, args=(int(environ[LIFE_FD]),), daemon=True).start()
    listener = socket.socket(fileno=int(environ[SOCKET_FD]))
    try:
        uvloop.run(server.serve(sockets=[listener]))
    finally:
        controller.shut_down()
        thread.join(30)


def _control(controller: Controller, server: Gateway) -> None:
    """A worker without its controller is no use: it leaves, and the supervisor tries again."""
    try:
        controller.run(WAIT_FOR_LOCK_S)
    except Exception:
        log.exception("the controller ended")
        server.should_exit = True


def _leave_with_the_supervisor(life: int) -> None:
    """The supervisor holds the other end of this pipe; when it is gone, however it went, so must we."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(take(os.environ))
    except EngineError as error:
        sys.exit(f"engine: {error}")
