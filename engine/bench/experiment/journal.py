"""What an experiment writes down while it runs, so that nothing valid is lost or repeated however it ends."""

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.bench.saturation import Sweep, Trial, sweep_json
from engine.errors import ConfigurationError
from engine.experiments import Experiment
from engine.fleet.deployments import to_json, write_atomically


class Journal:
    """The trials of an experiment, in the order of their end; the folder is the truth, this is its copy."""

    def __init__(self, experiment: Experiment) -> None:
        """Reads what is there; a line that was cut off by a kill is dropped from the file."""
        self._folder = experiment.path
        self._file = experiment.path / "trials.jsonl"
        self._mend()
        try:
            self.trials = [msgspec.convert(line, Trial) for line in experiment.trials()]
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{self._file} holds something that is no trial: {error}") from error

    def of(self, deployment: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.deployment == deployment]

    def add(self, trial: Trial) -> None:
        """On the disk before it counts."""
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(trial) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.trials.append(trial)

    def conclude(self, sweeps: Sequence[Sweep]) -> None:
        write_atomically(self._folder / "result.json", to_json([sweep_json(sweep) for sweep in sweeps]))

    def tell(self, provenance: dict[str, Any]) -> None:
        write_atomically(self._folder / "provenance.json", to_json(provenance))

    def _mend(self) -> None:
        if self._file.exists():
            text = self._file.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                write_atomically(self._file, whole.decode())
