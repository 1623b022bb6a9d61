"""The reading side of host files: what is skipped, and when a lease holds."""

import dataclasses
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.fleet.hosts import Endpoint, GpuSample, HostFile, Leases, Timing, endpoint, hosts_text, read

GOLDEN = Path(__file__).parents[1] / "data" / "host-file.json"


def host_file(job_id: str = "4711", **changes: Any) -> HostFile:
    at = datetime(2026, 11, 25, 8, tzinfo=UTC)
    file = HostFile("d", 0, 1, job_id, "ready", "10.0.0.7", 40123, "n3", at, at, at, beat=1, lease_s=30)
    return dataclasses.replace(file, **changes)


def write(folder: Path, **changes: Any) -> Path:
    fields = {**json.loads(GOLDEN.read_text()), **changes}
    path = folder / f"{fields['job_id']}.json"
    path.write_text(json.dumps(fields))
    return path


def test_the_golden_host_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "4711.json").write_text(GOLDEN.read_text())
    assert read(tmp_path) == [
        HostFile(
            deployment="smollm2",
            index=1,
            attempt=3,
            job_id="4711",
            stage="ready",
            host="10.0.0.7",
            port=40123,
            node="n3",
            started_at=datetime(2026, 11, 25, 8, 0, 0, tzinfo=UTC),
            ready_at=datetime(2026, 11, 25, 8, 0, 42, tzinfo=UTC),
            renewed_at=datetime(2026, 11, 25, 8, 1, 7, tzinfo=UTC),
            beat=6,
            lease_s=30.0,
            timing=Timing(41.25, 0.5),
            busy=2,
            cpu_percent=187.5,
            gpus=(GpuSample(0, "NVIDIA A100-SXM4-80GB", 93.0, 71.2, 80.0),),
        )
    ]


def test_files_come_by_index_then_attempt(tmp_path: Path) -> None:
    for job_id, index, attempt in (("10", 1, 1), ("9", 0, 2), ("11", 0, 1)):
        write(tmp_path, job_id=job_id, index=index, attempt=attempt)
    assert [file.job_id for file in read(tmp_path)] == ["11", "9", "10"]


def test_a_folder_that_is_not_there_holds_no_files(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": "1"},
        {"port": 0},
        {"port": 70000},
        {"stage": "wedged"},
        {"host": "a b"},
        {"host": ""},
        {"lease_s": 0},
        {"renewed_at": "2026-11-25T08:01:07"},
        {"beat": None},
    ],
)
def test_a_file_that_is_wrong_or_newer_is_skipped(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, **changes)
    write(tmp_path, job_id="good")
    assert [file.job_id for file in read(tmp_path)] == ["good"]


def test_half_written_empty_foreign_and_unreadable_things_are_skipped(tmp_path: Path) -> None:
    whole = GOLDEN.read_text()
    (tmp_path / "1.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "2.json").write_text("")
    (tmp_path / "3.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "4.json").write_text("[1, 2]")
    (tmp_path / "5.json").write_text(whole)
    (tmp_path / "6.json").mkdir()
    (tmp_path / "7.json").symlink_to(tmp_path / "gone")
    (tmp_path / ".4711.json").write_text(whole)
    (tmp_path / "8.json").write_text(" " * 100_000)
    os.mkfifo(tmp_path / "9.json")
    assert read(tmp_path) == []


def test_fields_that_we_do_not_know_yet_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, colour="blue")
    assert len(read(tmp_path)) == 1


def test_the_hosts_file_has_one_address_a_line_without_doubles() -> None:
    endpoints = [
        Endpoint("10.0.0.8", 2, "secret"),
        Endpoint("10.0.0.7", 1),
        Endpoint("fe80::1", 3),
        Endpoint("10.0.0.7", 1),
    ]
    assert hosts_text(endpoints) == "10.0.0.7:1\n10.0.0.8:2\n[fe80::1]:3\n"
    assert hosts_text([]) == ""


def test_a_host_file_becomes_an_endpoint_with_our_key() -> None:
    assert endpoint(host_file(), "secret") == Endpoint("10.0.0.7", 40123, "secret")


def test_a_lease_holds_while_its_beat_grows_and_ends_when_it_stands_still() -> None:
    leases, file = Leases(), host_file()
    assert leases.fresh([file], now=1000) == [file]
    assert leases.fresh([file], now=1029) == [file]
    assert leases.fresh([file], now=1030) == []
    renewed = host_file(beat=2)
    assert leases.fresh([renewed], now=1031) == [renewed]
    assert leases.fresh([renewed], now=1060) == [renewed]
    assert leases.fresh([renewed], now=1061) == []


def test_the_clocks_of_nodes_do_not_matter() -> None:
    leases = Leases()
    past = host_file("1", renewed_at=datetime(1999, 1, 1, tzinfo=UTC))
    future = host_file("2", renewed_at=datetime(2099, 1, 1, tzinfo=UTC))
    assert leases.fresh([past, future], now=0) == [past, future]
    assert leases.fresh([past, future], now=30) == []


def test_a_reader_that_slept_long_does_not_drop_a_replica_that_went_on() -> None:
    leases = Leases()
    leases.fresh([host_file()], now=0)
    later = host_file(beat=500)
    assert leases.fresh([later], now=2500) == [later]


def test_a_requeued_job_starts_its_beats_again_and_its_old_writer_is_never_fresh() -> None:
    leases, old, new = Leases(), host_file(beat=90), host_file(beat=1, restart=1)
    assert leases.fresh([old], now=0) == [old]
    assert leases.fresh([new], now=1) == [new]
    assert leases.fresh([host_file(beat=91)], now=2) == []
    again = host_file(beat=2, restart=1)
    assert leases.fresh([again], now=3) == [again]


def test_a_file_that_went_away_is_forgotten() -> None:
    leases, file = Leases(), host_file()
    leases.fresh([file], now=0)
    assert leases.fresh([], now=10) == []
    assert leases.fresh([file], now=50) == [file]
