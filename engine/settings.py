"""Settings of one engine process: read from the environment once, frozen, passed down."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent
SCHEDULERS = ("auto", "slurm", "local")


@dataclass(frozen=True)
class Settings:
    """Where the engine keeps things and where it listens.

    `home` lies on a file system that the nodes see; `local` on a local disk (databases do not survive NFS).
    `host` is the address that NGINX and the gateway bind. Results of batches are kept for `keep_days`.
    Of each deployment `queue_most` requests may wait, `queue_wait_s` at most; above `peak_percent` of its capacity the
    workflows stand back. The request log has prompts only with `log_prompts`. The crawler names
    `contact`, a mail or web address, to the sites that it visits.
    """

    home: Path
    local: Path
    host: str = "127.0.0.1"
    port: int = 8000
    address_port: int = 8080
    scheduler: str = "auto"
    database_url: str = ""
    site_file: Path | None = None
    models_file: Path | None = None
    templates: Path = ROOT / "templates"
    keep_days: int = 30
    queue_most: int = 1000
    queue_wait_s: int = 60
    peak_percent: int = 80
    log_prompts: bool = False
    contact: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Settings from `ENGINE_*`; raises ConfigurationError for a value that cannot be."""
        home = Path(environ.get("ENGINE_HOME") or "var").absolute()
        local = Path(environ.get("ENGINE_LOCAL") or home / "local").absolute()
        scheduler = environ.get("ENGINE_SCHEDULER") or "auto"
        if scheduler not in SCHEDULERS:
            raise ConfigurationError(f"ENGINE_SCHEDULER is {scheduler!r}; it must be one of {', '.join(SCHEDULERS)}")
        return cls(
            home=home,
            local=local,
            host=environ.get("ENGINE_HOST") or "127.0.0.1",
            port=_port(environ, "ENGINE_PORT", 8000),
            address_port=_port(environ, "ENGINE_ADDRESS_PORT", 8080),
            scheduler=scheduler,
            database_url=environ.get("ENGINE_DATABASE_URL") or f"sqlite:///{local / 'engine.db'}",
            site_file=_file(environ, "ENGINE_SITE", Path("site.toml")),
            models_file=_file(environ, "ENGINE_MODELS", None),
            keep_days=_number(environ, "ENGINE_KEEP_DAYS", 30, 9999, "days"),
            queue_most=_number(environ, "ENGINE_QUEUE_MOST", 1000, 100_000, "requests"),
            queue_wait_s=_number(environ, "ENGINE_QUEUE_WAIT_S", 60, 3600, "seconds"),
            peak_percent=_number(environ, "ENGINE_PEAK_PERCENT", 80, 100, "percent"),
            log_prompts=environ.get("ENGINE_LOG_PROMPTS") == "1",
            contact=environ.get("ENGINE_CONTACT") or "",
        )

    def environ(self) -> dict[str, str]:
        """The environment from which a child process reads these same settings."""
        values = {
            "ENGINE_HOME": self.home,
            "ENGINE_LOCAL": self.local,
            "ENGINE_HOST": self.host,
            "ENGINE_PORT": self.port,
            "ENGINE_ADDRESS_PORT": self.address_port,
            "ENGINE_SCHEDULER": self.scheduler,
            "ENGINE_DATABASE_URL": self.database_url,
            "ENGINE_SITE": self.site_file or "",
            "ENGINE_MODELS": self.models_file or "",
            "ENGINE_KEEP_DAYS": self.keep_days,
            "ENGINE_QUEUE_MOST": self.queue_most,
            "ENGINE_QUEUE_WAIT_S": self.queue_wait_s,
            "ENGINE_PEAK_PERCENT": self.peak_percent,
            "ENGINE_LOG_PROMPTS": "1" if self.log_prompts else "",
            "ENGINE_CONTACT": self.contact,
        }
        return {name: str(value) for name, value in values.items()}


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"{name} is {text!r}; it must be a port, 1 to 65535")
    return int(text)


def _number(environ: Mapping[str, str], name: str, default: int, most: int, what: str) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or len(text) > 9 or not 0 < int(text) <= most:
        raise ConfigurationError(f"{name} is {text!r}; it must be a number of {what}, 1 to {most}")
    return int(text)


def _file(environ: Mapping[str, str], name: str, default: Path | None) -> Path | None:
    given = environ.get(name)
    if given:
        path = Path(given).absolute()
        if not path.is_file():
            raise ConfigurationError(f"{name} names {path}, which is not a file")
        return path
    return default.absolute() if default and default.is_file() else None


NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "beegfs", "ceph", "fuse.sshfs", "9p"}


def require_local_disk(path: Path, mounts: str | None = None) -> None:
    """Raises ConfigurationError when `path` lies on a network file system, where SQLite's and Chroma's locks break.

    `mounts` is the text of /proc/mounts.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return
    resolved = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, fstype, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        inside = point and (resolved == point or resolved.startswith(point.rstrip("/") + "/"))
        if inside and len(point) >= len(best):
            best, kind = point, fstype
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            f"ENGINE_LOCAL is {path}, on {kind} mounted at {best}; databases need a local disk: "
            "set ENGINE_LOCAL, say to /var/tmp/engine-$USER"
        )
