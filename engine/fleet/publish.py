"""Telling the addresses: the hosts files for people and other programs, nginx.conf for the one address."""

import logging
from collections.abc import Callable, Mapping, Sequence

from engine.errors import EngineError
from engine.fleet import hosts, nginx_conf
from engine.fleet.deployments import Status, folder, write_atomically
from engine.fleet.nginx import Nginx
from engine.settings import Settings

log = logging.getLogger(__name__)

MaxConns = Callable[[Sequence[Status]], Mapping[str, int]]


class Publisher:
    """The only writer of hosts files and of nginx.conf. `gateway` is the HOST:PORT that NGINX forwards to, `max_conns`
    tells how many requests it may give to a replica of each; `error` is what it refused last, empty when all is well.
    """

    def __init__(
        self, settings: Settings, nginx: Nginx | None, gateway: str | None, max_conns: MaxConns = lambda _: {}
    ) -> None:
        self._settings, self.nginx, self._gateway, self._max_conns = settings, nginx, gateway, max_conns
        self.error = ""
        self._unwritten: set[str] = set()

    def publish(self, statuses: Sequence[Status]) -> None:
        """Brings the hosts files and NGINX up to date; what NGINX refuses is logged once, the old stays in force."""
        for status in statuses:
            self._write_hosts(status)
        if self.nginx:
            self._apply(self.nginx, statuses)

    def _write_hosts(self, status: Status) -> None:
        """A folder that cannot be written to is told of once, and keeps no other's addresses back."""
        name = status.deployment.name
        path = folder(self._settings.home, name).hosts_file
        text = hosts.hosts_text(replica.endpoint for replica in status.serving if replica.endpoint)
        try:
            if not path.exists() or path.read_text() != text:
                write_atomically(path, text)
            self._unwritten.discard(name)
        except OSError as error:
            if name not in self._unwritten:
                log.error("%s cannot be written: %s", path, error)
            self._unwritten.add(name)

    def _apply(self, nginx: Nginx, statuses: Sequence[Status]) -> None:
        settings = self._settings
        try:
            text = nginx_conf.nginx(
                statuses,
                home=nginx.root,
                host=settings.host,
                port=settings.address_port,
                gateway=self._gateway,
                templates=settings.templates,
                max_conns=self._max_conns(statuses),
            )
            nginx.apply(text)
            self.error = ""
        except EngineError as error:
            if str(error) != self.error:
                log.error("%s", error)
            self.error = str(error)
