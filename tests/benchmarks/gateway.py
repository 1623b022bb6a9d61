"""Our gateway alone, as its worker runs it, before simulators that it is told of: a process whose CPU time can be read.

python -m tests.benchmarks.gateway --port P --database URL --token T --replica-key K --upstream NAME=PORT …
"""

import argparse
from dataclasses import replace
from pathlib import Path

import uvicorn

from engine.fleet.hosts import Endpoint
from engine.gateway.app import create_app
from engine.gateway.keys import Keys
from engine.gateway.server import config
from engine.ports import listen
from engine.settings import Settings
from tests.fakes import FakeController, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--replica-key", required=True)
    parser.add_argument("--upstream", action="append", required=True, metavar="NAME=PORT")
    given = parser.parse_args()
    pairs = [text.split("=") for text in given.upstream]
    statuses = [
        serving(
            name,
            Endpoint("127.0.0.1", int(port), given.replica_key),
            model=name,
            arguments={"capacity": "100000"},
        )
        for name, port in pairs
    ]
    control = FakeController(*(replace(status, replica_key=given.replica_key) for status in statuses))
    folder = Path(given.database.removeprefix("sqlite:///")).parent
    settings = replace(Settings.from_env({"ENGINE_HOME": str(folder)}), port=given.port)
    app = create_app(control, Keys(given.database), settings, given.token)
    uvicorn.Server(config(app, drain_s=1)).run(sockets=[listen("127.0.0.1", given.port)])


if __name__ == "__main__":
    main()
