"""What `engine serve` gives on to its children, and whom it lets write into its folders."""

import os
import stat
from pathlib import Path

from engine import serve, worker
from engine.settings import Settings


def test_a_worker_keeps_its_secrets_from_the_jobs_that_inherit_its_environment() -> None:
    environ = {
        "PATH": "/bin",
        serve.TOKEN: "secret",
        serve.SOCKET_FD: "3",
        "ENGINE_DATABASE_URL": "postgresql://u:p@h/d",
    }
    own = worker.take(environ)
    assert own[serve.TOKEN] == "secret" and own["ENGINE_DATABASE_URL"].startswith("postgresql")
    assert environ == {"PATH": "/bin"}


def test_no_group_may_write_into_the_engines_folders_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        serve._prepare(Settings(home=tmp_path / "home", local=tmp_path / "local"))
        (tmp_path / "home" / "deployments").mkdir()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "home" / "deployments").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "local").stat().st_mode) == 0o700


def test_a_folder_that_was_there_before_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    serve._prepare(Settings(home=tmp_path / "home", local=tmp_path / "shared"))
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o1777
