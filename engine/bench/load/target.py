"""Where the load goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.errors import ConfigurationError


@dataclass(frozen=True)
class Target:
    """One address that takes POSTs in OpenAI's format, over plain HTTP/1.1."""

    host: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, url: str, key: str = "", headers: Mapping[str, str] | None = None, path: str = "/chat/completions"
    ) -> "Target":
        """The target at `url`; one without a path or that ends in /v1 is completed by `path`.

        Raises ConfigurationError for a URL that is not http, and for headers that would not stay in their line.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise ConfigurationError(f"the target {url!r} is not a URL: {error}") from error
        if parts.scheme != "http" or not parts.hostname:
            why = "https is not spoken: inside a cluster, aim at the http address of the gateway, NGINX or a replica"
            raise ConfigurationError(f"the target {url!r} is no http:// URL; {why}")
        given = {**({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        for name, value in given.items():
            if not name or not (name + value).isprintable() or not (name + value).isascii() or ":" in name:
                raise ConfigurationError(f"the header {name!r} cannot be sent: it holds more than printable ASCII")
        return cls(parts.hostname, port, _completed(parts.path.rstrip("/"), path), tuple(given.items()))

    @property
    def head(self) -> bytes:
        """The request up to the value of content-length, its last header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"POST {self.path} HTTP/1.1", f"host: {host}:{self.port}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "content-length: "]).encode("ascii")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


def _completed(base: str, path: str) -> str:
    if not base:
        return "/v1" + path
    return base + path if base.endswith("/v1") else base
