"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, run by somebody who is not root."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import free_port, require

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
USERS = ("postgres", "nobody")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of an empty database; skips, or fails where ENGINE_REQUIRE_REAL=1, without PostgreSQL."""
    initdb, pg_ctl = (_program(name) for name in ("initdb", "pg_ctl"))
    folder.mkdir(parents=True)
    port = free_port()
    as_user = _as_user(folder)
    data = folder / "data"
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    subprocess.run([*as_user, initdb, "-D", data, "-U", "engine", "-A", "trust", "-E", "UTF8", "--no-sync"],
                   check=True, capture_output=True, timeout=60, cwd=folder)  # fmt: skip
    start = [*as_user, pg_ctl, "-D", data, "-o", options, "-l", folder / "log", "-w", "-t", "30", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=folder)
    try:
        yield f"postgresql://engine@127.0.0.1:{port}/postgres"
    finally:
        stop = [*as_user, pg_ctl, "-D", data, "-m", "immediate", "-w", "stop"]
        subprocess.run(stop, check=False, stdout=subprocess.DEVNULL, timeout=60, cwd=folder)


def _program(name: str) -> str:
    """Debian keeps them out of the path."""
    found = next((str(one / name) for one in FOLDERS if (one / name).exists()), None)
    return found or require(name)


def _as_user(folder: Path) -> list[str]:
    if os.getuid() != 0:
        return []
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = next(name for name in USERS if name in known)
    shutil.chown(folder, user)
    for parent in folder.parents:  # pytest's folders are closed to others, who only have to pass through
        if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return [require("setpriv"), f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
