"""Slurm's short form of node names (pure)."""

import re

_PART = re.compile(r"([^,\[\]]*)(?:\[([\d,-]+)\])?([^,\[\]]*)(?:,|$)")


def expand(text: str) -> list[str]:
    """`n[1-3,07],m` to n1, n2, n3, n07, m; zeros in front are kept. One pair of brackets in each name."""
    names: list[str] = []
    for before, numbers, after in _PART.findall(text):
        if numbers:
            names += [f"{before}{number}{after}" for part in numbers.split(",") for number in _numbers(part)]
        elif before:
            names.append(before)
    return names


def _numbers(part: str) -> list[str]:
    first, dash, last = part.partition("-")
    if not dash:
        return [first]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
