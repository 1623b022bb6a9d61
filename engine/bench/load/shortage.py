"""When this machine, not the server, has no room for another connection."""

import errno
import resource

from engine.errors import ConfigurationError

# Files that a process has open besides its connections.
OTHER_FILES = 128
OURS = {
    errno.EMFILE: "open files of this process",
    errno.ENFILE: "open files of this machine",
    errno.EADDRNOTAVAIL: "free local ports",
    errno.ENOBUFS: "memory for sockets",
}


def of(failure: OSError | TimeoutError) -> str | None:
    """What a failed connection lacked on our side; None when it was the server's doing."""
    return OURS.get(failure.errno or 0)


def make_room(connections: int) -> None:
    """Raises this process's limit of open files as far as it needs to be.

    Raises ConfigurationError when the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    new = raised(connections + OTHER_FILES, soft, hard)
    if new != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))


def raised(needed: int, soft: int, hard: int) -> int:
    """The soft limit that allows `needed` files, at least the one there is."""
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return soft
    if hard != resource.RLIM_INFINITY and needed > hard:
        told = f"{needed} open files are needed for so many connections, but this process may have {hard}"
        raise ConfigurationError(f"{told}: ask for less load, or raise the limit (ulimit -Hn)")
    return needed
