"""From a host's name to an address that may be connected to; connections go to exactly the address that was checked.

A name that answers with a public address when it is checked and with a private one when it is used (DNS rebinding) gets
nothing: the one look-up is the checked one, and the connection is opened by its result.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import httpcore
import httpx

from engine.errors import AddressRefused, ConfigurationError

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REMEMBERED_S = 300.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Override:
    """curl's `--resolve`: connections to `host` and `port` go to `address`; `to_port` is ours, for test sites.

    A host that begins with `*.` stands for all names under the rest of it.
    """

    host: str
    port: int
    address: str
    to_port: int

    def covers(self, host: str, port: int) -> bool:
        if port != self.port:
            return False
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


def override(text: str) -> Override:
    """From `HOST:PORT:ADDRESS` or `HOST:PORT:ADDRESS:PORT`; raises ConfigurationError for anything else."""
    host, _, rest = text.partition(":")
    port, _, where = rest.partition(":")
    address, to_port = where, port
    if where.startswith("["):
        address, _, after = where[1:].partition("]")
        to_port = after.removeprefix(":") or port
    elif where.count(":") == 1:
        address, to_port = where.split(":")
    try:
        ipaddress.ip_address(address)
        return Override(host.lower(), int(port), address, int(to_port))
    except ValueError as error:
        told = f"--resolve {text!r}: it must be HOST:PORT:ADDRESS, or HOST:PORT:ADDRESS:PORT, ADDRESS a number"
        raise ConfigurationError(told) from error


def is_public(address: str) -> bool:
    """Whether an address is of the open internet; what IPv6 forms wrap an IPv4 address is judged by that one."""
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        if found in NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if wrapped:
            return wrapped.is_global and not wrapped.is_multicast
    return found.is_global and not found.is_multicast


def is_private_literal(host: str) -> bool:
    """Whether a host is written as a number that is not of the open internet."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system knows them; raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Resolver:
    """Looks names up once in REMEMBERED_S, and refuses those with a private address among their own."""

    def __init__(
        self, overrides: Iterable[Override] = (), allow_private: bool = False, look_up: LookUp = look_up
    ) -> None:
        self._overrides = tuple(overrides)
        self._allow_private = allow_private
        self._look_up = look_up
        self._known: dict[tuple[str, int], tuple[float, list[tuple[str, int]]]] = {}

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Addresses and ports to connect to, in order; raises AddressRefused.

        What the operator has mapped by hand is not checked; it is their word.
        """
        for one in self._overrides:
            if one.covers(host, port):
                return [(one.address, one.to_port)]
        now = asyncio.get_running_loop().time()
        until, found = self._known.get((host, port), (0.0, []))
        if now >= until:
            found = [(address, port) for address in await self._checked(host, port)]
            self._known[host, port] = (now + REMEMBERED_S, found)
        return found

    async def _checked(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address: {getattr(error, 'strerror', error)}") from error
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise AddressRefused(f"{host} has the private address {private[0]}")
        return addresses


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to what the resolver allows, and to nothing else."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failed: Exception | None = None
        for address, to_port in (await self._resolver.resolve(host, port))[:3]:
            try:
                return await self._inner.connect_tcp(address, to_port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")


class PinnedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool whose connections are pinned. Host and SNI stay the name's; no proxy is used."""

    def __init__(self, resolver: Resolver, connections: int) -> None:
        # Only whom to trust comes from the environment (SSL_CERT_FILE, SSL_CERT_DIR): a site's own authority.
        trusted = httpx.create_ssl_context()
        super().__init__(verify=trusted, trust_env=False)
        # httpx does not pass a network backend on to its pool, so the pool is made here, as httpx makes it.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=connections,
            keepalive_expiry=15,
            network_backend=PinnedBackend(resolver),
        )
