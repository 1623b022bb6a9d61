"""The command line: `python -m rag …`.

Exit 0 done, 1 failed, 2 wrong use. An error is one line on stderr: what was tried, what came back, where to look.
"""

import sys
from collections.abc import Sequence

import typer

from engine.terminal import run
from rag.commands import build, crawl, evaluate, refresh, sample, search

app = typer.Typer(
    help="Turn a university's web site into passages with citations.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    *(crawl.crawl, crawl.pause, crawl.status, refresh.refresh),
    *(build.build, build.generations, build.rollback, sample.sample),
    *(search.search, evaluate.evaluate),
):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run(app, "rag", arguments)


if __name__ == "__main__":
    sys.exit(main())
