"""The seam to other programs: argv in, output out. Tests pass a plain function in its place."""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Completed:
    """How a program ended; `returncode` is negative when a signal ended it."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str], float], Completed]


def run(argv: Sequence[str], timeout_s: float) -> Completed:
    """Runs a program to its end, in the C locale.

    Raises TimeoutError when it has not ended after `timeout_s` (it and its children are killed) and FileNotFoundError
    when there is no such program.
    """
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{argv[0]} gave no answer within {timeout_s:g} s") from error
        finally:
            # A session of its own, so that a grandchild that holds the pipe goes too.
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return Completed(process.returncode, stdout, stderr)
