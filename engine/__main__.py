"""The command line: `python -m engine …`.

Exit 0 done, 1 failed, 2 wrong use. An error is one line on stderr: what was tried, what came back, where to look.
"""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from engine.commands import bench, experiment, fleet, keys, look, paper, serving, show, usage, workflows
from engine.errors import ConfigurationError, EngineError, GatewayError
from engine.tables import problem

WRONG_USE = (400, 404, 422)
# typer carries its own click, whose UsageError it exports only as the parent of BadParameter.
WrongUse: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Serve large language models on a Slurm cluster behind one address.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    *(show.doctor, show.models, show.render),
    *(fleet.launch, fleet.ps, fleet.events, fleet.logs, fleet.scale, fleet.drain, fleet.restart, fleet.stop),
    *(look.status, look.cluster, look.queue, look.requests, look.gpu_hours, look.inspect, look.check),
    *(serving.serve, serving.up, serving.down, serving.apps),
    *(workflows.laws, workflows.verdicts, usage.usage),
):
    app.command()(command)
app.add_typer(keys.app, name="keys")
bench.app.command()(experiment.saturate)
bench.app.command()(experiment.stop)
bench.app.command()(experiment.resume)
bench.app.command("list")(experiment.list_)
bench.app.command()(paper.paper)
app.add_typer(bench.app, name="bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        result = app(list(arguments) or ["--help"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except WrongUse as error:
        words = getattr(error, "format_message", error.__str__)()
        return _fail(f"{words.replace('Value error, ', '')} (see --help)", 2)
    except typer.Abort:
        return _fail("interrupted", 130)
    except ValidationError as error:
        return _fail(problem(error.errors()[0]), 2)
    except GatewayError as error:
        return _fail(str(error), 2 if error.status in WRONG_USE else 1)
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
    print(f"engine: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
