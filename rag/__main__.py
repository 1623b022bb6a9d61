"""The command line: `python -m rag …`.

Exit 0 done, 1 failed, 2 wrong use. An error is one line on stderr: what was tried, what came back, where to look.
"""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from engine.errors import ConfigurationError, EngineError
from engine.tables import problem
from rag.commands import build, crawl, evaluate, refresh, sample, search

# typer carries its own click, whose UsageError it exports only as the parent of BadParameter.
WrongUse: type[Exception] = typer.BadParameter.__mro__[1]

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
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        result = app(list(arguments) or ["--help"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except WrongUse as error:
        return _fail(f"{getattr(error, 'format_message', error.__str__)()} (see --help)", 2)
    except typer.Abort:
        return _fail("interrupted", 130)
    except ValidationError as error:
        return _fail(problem(error.errors()[0]), 2)
    except EngineError as error:
        return _fail(str(error), 2 if isinstance(error, ConfigurationError) else 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


def _fail(message: str, code: int) -> int:
    print(f"rag: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
