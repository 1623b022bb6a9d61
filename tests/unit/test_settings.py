"""Settings from the environment, and the local disk that databases need."""

from pathlib import Path

import pytest

from engine.errors import ConfigurationError
from engine.settings import NETWORK_FILE_SYSTEMS, Settings, require_local_disk

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
mds@tcp:/scratch /scratch lustre rw 0 0
server:/with\\040space /mnt/with\\040space nfs rw 0 0

broken
"""


def test_an_empty_environment_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Settings.from_env({})
    assert (found.home, found.local) == (tmp_path / "var", tmp_path / "var" / "local")
    assert (found.host, found.port, found.address_port, found.scheduler) == ("127.0.0.1", 8000, 8080, "auto")
    assert found.database_url == f"sqlite:///{tmp_path}/var/local/engine.db"
    assert found.site_file is None and found.models_file is None


def test_a_site_file_in_the_working_directory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").touch()
    assert Settings.from_env({}).site_file == tmp_path / "site.toml"


@pytest.mark.parametrize("name", ["ENGINE_PORT", "ENGINE_ADDRESS_PORT"])
@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "80.5", "8 000"])
def test_a_port_that_cannot_be_is_refused_in_one_line(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is '{value}'; it must be a port, 1 to 65535$"):
        Settings.from_env({name: value})


def test_an_unknown_scheduler_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it must be one of auto, slurm, local"):
        Settings.from_env({"ENGINE_SCHEDULER": "pbs"})
    for name in ("ENGINE_SITE", "ENGINE_MODELS"):
        with pytest.raises(ConfigurationError, match=f"{name} names .*none.toml, which is not a file"):
            Settings.from_env({name: str(tmp_path / "none.toml")})


def test_a_child_process_reads_the_same_settings(tmp_path: Path) -> None:
    (tmp_path / "site.toml").touch()
    given = {"ENGINE_HOME": str(tmp_path), "ENGINE_PORT": "8123", "ENGINE_SITE": str(tmp_path / "site.toml"),
             "ENGINE_HOST": "::1", "ENGINE_SCHEDULER": "local"}  # fmt: skip
    settings = Settings.from_env(given)
    assert Settings.from_env(settings.environ()) == settings


@pytest.mark.parametrize("path", ["/home/anna/local", "/scratch", "/scratch/x", "/mnt/with space/x"])
def test_a_network_file_system_is_refused_with_its_kind_and_what_to_do(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"on (nfs4|nfs|lustre) mounted at .*; .* set ENGINE_LOCAL"):
        require_local_disk(Path(path), MOUNTS)


@pytest.mark.parametrize("path", ["/var/engine", "/home/local/x", "/scratchy", "/homes"])
def test_a_local_disk_is_taken(path: str) -> None:
    require_local_disk(Path(path), MOUNTS)


@pytest.mark.parametrize("kind", sorted(NETWORK_FILE_SYSTEMS))
def test_each_network_file_system_is_known_by_its_kind(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=kind):
        require_local_disk(Path("/data"), f"x / ext4 rw 0 0\nserver /data {kind} rw 0 0\n")


def test_the_last_mount_at_a_place_is_the_one_that_counts() -> None:
    require_local_disk(Path("/data"), "a /data nfs rw 0 0\nb /data ext4 rw 0 0\n")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/scratch")
    with pytest.raises(ConfigurationError, match="lustre"):
        require_local_disk(tmp_path / "link", MOUNTS)


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    require_local_disk(tmp_path)


NUMBERS = {"ENGINE_QUEUE_MOST": "5", "ENGINE_QUEUE_WAIT_S": "7", "ENGINE_PEAK_PERCENT": "60", "ENGINE_KEEP_DAYS": "3"}


def test_limits_of_the_queue_reach_the_child_processes() -> None:
    found = Settings.from_env({**NUMBERS, "ENGINE_LOG_PROMPTS": "1"})
    assert (found.queue_most, found.queue_wait_s, found.peak_percent, found.keep_days) == (5, 7, 60, 3)
    assert found.log_prompts and not Settings.from_env({}).log_prompts
    assert Settings.from_env(found.environ()) == found


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0", "-1", "many", "9999999999"])
def test_a_number_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is '{value}'"):
        Settings.from_env({name: value})
