"""Every exception of the engine.

    EngineError
    ├── ConfigurationError      a value in site.toml, models.toml, the environment or a request is wrong
    │   └── UnknownName         a model, deployment, engine or partition that does not exist; lists the known ones
    ├── Conflict                the thing exists already, or somebody else holds it
    ├── SchedulerError
    │   ├── SubmitFailed        sbatch refused the job
    │   └── SchedulerUnreachable  squeue, scancel or the like gave no answer: nothing is known, nothing may be concluded
    ├── ReplicaError
    │   ├── ReplicaFailed       a server ended, or never came up
    │   └── NotReadyInTime      the wait ended before enough replicas answered
    ├── EndpointError           talking to a replica
    │   ├── EndpointRefused     no connection, or it broke before the first byte
    │   └── EndpointTimedOut
    ├── AccessDenied            no key, an unknown one, or one without the right
    ├── Overloaded              carries retry_after_s
    ├── GatewayError            the gateway answered an error (raised by EngineClient): status, code, retry_after_s
    ├── DatabaseError           the database of keys, usage, verdicts or feedback does not answer
    ├── CrawlError              a crawl cannot begin or go on, or there is none to read
    │   ├── AddressRefused      a host's address is private, or there is none
    │   └── FetchFailed         one address gave no usable answer; says whether to try again
    ├── RetrievalError
    │   ├── IndexMissing        there is no index to search; names the command that builds one
    │   └── IndexRejected       a new generation failed its checks, so the old one stays current
    └── NginxError              nginx refused its configuration or did not start

A message says what was tried, what came back, and where to look.
"""

import difflib
from collections.abc import Iterable


class EngineError(Exception):
    """Root of all errors that the engine raises on purpose."""


class ConfigurationError(EngineError):
    pass


class UnknownName(ConfigurationError):
    """`kind` is the noun for people ("model", "deployment"), `known` the names that would have worked.

    The message names the most similar ones first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        close = difflib.get_close_matches(name, self.known)
        listed = ", ".join([*close, *(one for one in self.known if one not in close)]) or "none yet"
        super().__init__(f"unknown {kind} {name!r}; known: {listed}")


class Conflict(EngineError):
    pass


class SchedulerError(EngineError):
    pass


class SubmitFailed(SchedulerError):
    pass


class SchedulerUnreachable(SchedulerError):
    pass


class ReplicaError(EngineError):
    pass


class ReplicaFailed(ReplicaError):
    pass


class NotReadyInTime(ReplicaError):
    pass


class EndpointError(EngineError):
    pass


class EndpointRefused(EndpointError):
    pass


class EndpointTimedOut(EndpointError):
    pass


class AccessDenied(EngineError):
    pass


class Overloaded(EngineError):
    def __init__(self, message: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class GatewayError(EngineError):
    def __init__(self, message: str, status: int, code: str | None = None, retry_after_s: int | None = None) -> None:
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        super().__init__(message)


class DatabaseError(EngineError):
    pass


class CrawlError(EngineError):
    pass


class AddressRefused(CrawlError):
    pass


class FetchFailed(CrawlError):
    def __init__(self, message: str, again: bool) -> None:
        self.again = again
        super().__init__(message)


class RetrievalError(EngineError):
    pass


class IndexMissing(RetrievalError):
    pass


class IndexRejected(RetrievalError):
    pass


class NginxError(EngineError):
    pass
