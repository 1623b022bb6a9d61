"""Slurm's short form of node names."""

import pytest

from engine.fleet.schedulers.hostlist import expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n1,m2", ["n1", "m2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12],login", ["n08", "n09", "n10", "n12", "login"]),
        ("r1-[1-2]-gpu,x", ["r1-1-gpu", "r1-2-gpu", "x"]),
    ],
)
def test_names_are_written_out_with_their_zeros(text: str, names: list[str]) -> None:
    assert expand(text) == names
