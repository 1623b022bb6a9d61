"""The command line: `python -m engine …`.

Exit 0 done, 1 failed, 2 wrong use. An error is one line on stderr: what was tried, what came back, where to look.
"""

import sys
from collections.abc import Sequence

import typer

from engine.commands import bench, experiment, fleet, keys, look, paper, serving, show, usage, workflows
from engine.terminal import run

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
    return run(app, "engine", arguments)


if __name__ == "__main__":
    sys.exit(main())
