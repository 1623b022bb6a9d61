"""The running product for pictures: chatbot on the sample, a fleet of simulators, a finished sweep, a crawl, traffic.

Answers are a scripted server's, for the packaged model writes none worth reading.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.own_apps import OWN_APPS, launch_request
from rag import sample
from tests.processes import ROOT
from tests.serving import Engine, engine, load, until
from tests.university.serving import START, serving

TODAY = "2026-11-20"
QUESTION = "Bis wann muss ich mich für das Sommersemester zurückmelden?"
OFF_TOPIC = "Wie wird das Wetter morgen?"
REPLY = (
    "Für das Sommersemester 2027 meldest Du Dich **vom 4. bis zum 29. Januar 2027** zurück [1], "
    "verspätet noch bis zum 12. Februar 2027 [1]. Es zählt der Tag, an dem das Geld bei der Hochschule eingeht [1]. "
    "Danach bekommst Du eine Bestätigung mit der Post."
)
TALKING, SWEPT = "beispielmodell", "assistant"
MODELS: dict[str, dict[str, Any]] = {
    TALKING: {"arguments": {"reply": REPLY, "ttft_ms": "100", "itl_ms": "20"}},
    SWEPT: {"arguments": {"capacity": "4", "latency_ms": "250"}, "replicas": 2},
    "tutor": {"arguments": {"capacity": "8", "ttft_ms": "80", "itl_ms": "15"}},
}
FAILING = "translator"
ASKED_IN_VAIN = (
    ("refused", "Wo kann ich auf dem Campus mein Fahrrad reparieren?", "de", ""),
    ("refused", "Gibt es auf dem Campus eine Fahrradwerkstatt?", "de", ""),
    ("refused", "Is there a place to repair my bike?", "en", ""),
    ("dislike", "Wie viel kostet ein Parkplatz?", "de", "veraltet"),
    ("like", "Wann hat die Bibliothek am Samstag offen?", "de", ""),
    ("like", "How do I get my laptop onto the Wi-Fi?", "en", ""),
)


@contextmanager
def showroom(home: Path) -> Iterator[Engine]:
    """All of it on this machine's own scheduler, at one address."""
    sample.build_sample(home / "local" / "index")
    _crawl(home)
    with engine(home, {"ENGINE_SCHEDULER": "local"}) as running:
        _launch(running)
        _use(running)
        yield running


def _crawl(home: Path) -> None:
    environ = {**os.environ, "ENGINE_HOME": str(home), "ENGINE_LOCAL": str(home / "local")}
    argv = [sys.executable, "-m", "rag", "crawl", START, "--name", "auental", "--allow-private", "--max-pages", "60"]
    argv += ["--delay-s", "0.01", "--contact", "https://www.example.org/"]
    with serving() as university:
        argv += [part for one in university.resolve for part in ("--resolve", one)]
        subprocess.run(argv, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=120)


def _launch(running: Engine) -> None:
    brief = {"drain_timeout_s": 1}
    with running.client() as client:
        for name, given in MODELS.items():
            client.launch(model="simulator", name=name, **given, **brief)
        client.launch(model="simulator", name=FAILING, arguments={"exit_at_start": "3"}, **brief)
        for app in OWN_APPS:
            request = launch_request(app, running.presence.url, running.key() if app.keyed else "")
            environment = {**request["environment"], "ENGINE_TODAY": TODAY}
            client.launch(**{**request, "environment": environment, **brief})
    for name, given in MODELS.items():
        running.ready(name, given.get("replicas", 1))
    for app in OWN_APPS:
        running.ready(app.name, 1, timeout_s=120)


def _use(running: Engine) -> None:
    """A sweep, some traffic, what users said, and a deployment that fails."""
    options = ("--target", "replica", "--repeats", "2", "--max-concurrency", "16", "--foreign-cpu", "1", "--stream")
    running.run("bench", "saturate", SWEPT, *options, timeout_s=300)
    key = running.key()
    for name, clients in (("assistant", 6), ("tutor", 3)):
        with load(running.address, key, name, clients) as seen:
            until(lambda seen=seen: seen.answered > 100, 60, f"answers of {name}")
    with running.client() as client:
        for kind, question, language, reason in ASKED_IN_VAIN:
            client.feedback(kind, question, language, **({"reason": reason} if reason else {}))
        until(lambda: client.deployment(FAILING)["reason"], 60, f"{FAILING} has failed")
