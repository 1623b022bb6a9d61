#!/usr/bin/env python3
"""The sidecar: runs beside one inference server inside its job, and speaks for it.

    python3 replica.py --deployment NAME --index I --attempt A --hosts-dir DIR --key-file FILE --served-name NAME
                       [...] -- COMMAND ARG...

It picks a port by binding it, starts the server with the replica key, waits until /health answers 200 and one token
comes, then writes HOSTS_DIR/JOBID.json and renews it as a lease (`beat` += 1). Asked to leave (SIGUSR1, SIGTERM or
SIGINT) it goes `draining`, lets running requests end, stops the server and removes the file; a SIGTERM after that ends
it at once. If the server dies, or its engine does behind a living API, it says why and exits 1. Exit 0: left as asked.
Exit 2: wrong use.

Python 3.6 standard library alone and one file, for it is copied to the nodes and run by whatever Python they have.

Main thread: signals, the lease, the server's process. Watch thread: whatever talks to the server. So neither a server
that hangs nor an nvidia-smi that hangs delays a heartbeat. Signal handlers take no lock, and waiting is in select(2).
"""

import argparse
import collections
import ctypes
import errno
import fcntl
import http.client
import json
import math
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple  # noqa: F401 (in comments)

PORT_TRIES = 5
KILL_AFTER_S = 10.0
PROGRESS_S = 30.0
HEALTH_FAILURES = 3
REFUSAL_PATIENCE_S = 60.0
QUIET_S = 10.0
ASK_TIMEOUT_S = 5.0
LEASE_HEARTBEATS = 6
FIRST_TOKEN_TIMEOUT_S = 300.0
GPU_TIMEOUT_S = 10.0
MAX_REPLY = 4 * 1024 * 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PORT_NAMES = ("port", "port1", "port2", "port3")
PROBES = {
    "completion": ("/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}),
    "embedding": ("/v1/embeddings", {"input": "Hi"}),
}  # type: Dict[str, Tuple[str, Dict[str, Any]]]
TAKEN = re.compile(
    r"address (is )?already in use|address in use|EADDRINUSE|errno:? 98\b"
    r"|(could not|couldn't|cannot|can't|failed to) bind",
    re.IGNORECASE,
)


class Ended(Exception):
    """This sidecar's work is over, with an exit code and a line for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class PortTaken(Exception):
    """Somebody else listens on the port that was free a moment ago."""


# ---- what we are told


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="replica.py",
        usage="%(prog)s OPTIONS -- COMMAND ARG...",
        description="Runs beside one inference server and speaks for it.",
        epilog="In each ARG {port}, {port1} to {port3} and {host} are replaced.",
        allow_abbrev=False,
    )
    p.add_argument("--deployment", required=True)
    p.add_argument("--index", type=int, required=True)
    p.add_argument("--attempt", type=int, required=True)
    p.add_argument("--hosts-dir", required=True)
    p.add_argument("--key-file", required=True)
    p.add_argument("--served-name", required=True)
    p.add_argument("--key-env", action="append", default=[], help="a variable in which the server expects its key")
    p.add_argument("--interface", default="auto", help="auto, hostname, the name of an interface, or an address")
    p.add_argument("--health", default="/health")
    p.add_argument("--probe", choices=sorted(PROBES) + ["port"], default="completion")
    p.add_argument("--busy-metric", action="append", default=[], help="metric that counts requests in the server")
    p.add_argument("--heartbeat-s", type=float, default=5.0)
    p.add_argument("--lease-s", type=float, default=0.0, help="default: %d heartbeats" % LEASE_HEARTBEATS)
    p.add_argument("--load-timeout-s", type=float, default=3600.0)
    p.add_argument("--drain-timeout-s", type=float, default=300.0)
    p.add_argument("--settle-s", type=float, default=5.0)
    p.add_argument("--probe-timeout-s", type=float, default=120.0, help="patience with one token once health fails")
    p.add_argument("--progress-s", type=float, default=PROGRESS_S, help="between lines in the log while loading")
    p.add_argument("--kill-after-s", type=float, default=KILL_AFTER_S, help="from SIGTERM to SIGKILL of the server")
    p.add_argument("--port-min", type=int, default=0)
    p.add_argument("--port-max", type=int, default=0)
    return p


def parse(argv: Sequence[str]) -> argparse.Namespace:
    p = parser()
    split = list(argv).index("--") if "--" in argv else len(argv)
    options = p.parse_args(argv[:split])
    options.command = list(argv[split + 1 :])
    if not options.command:
        p.error("no server command after --")
    if options.heartbeat_s <= 0:
        p.error("--heartbeat-s must be positive")
    if bool(options.port_min) != bool(options.port_max) or not 0 <= options.port_min <= options.port_max < 65536:
        p.error("--port-min and --port-max go together, and within 1 to 65535")
    for name in options.key_env:
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*$", name):
            p.error("--key-env %r is no name of a variable" % name)
    options.lease_s = options.lease_s or LEASE_HEARTBEATS * options.heartbeat_s
    return options


def read_key(path: str) -> str:
    try:
        with open(path) as file:
            key = file.read().strip()
    except OSError as error:
        raise Ended(2, "cannot read the replica key %s: %s" % (path, error.strerror)) from error
    if not key:
        raise Ended(2, "the replica key %s is empty, and the server would be open to everybody" % path)
    return key


def say(message: str) -> None:
    """A line in the job's log. os.write: no buffer to lose and no lock; a full disk must not end the server."""
    line = "replica %s: %s\n" % (stamp(), message)
    try:
        os.write(1, line.encode("utf-8", "replace"))
    except OSError:
        pass


def stamp() -> str:
    """Now, ISO 8601, UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Signals:
    """Remembers what we were asked. `asked`: the first signal's name. `hurry`: asked again, so that draining ends now.

    Two SIGTERM within a second are one: schedulers and shells like to send both to the process and to its group.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.hurry = False
        self._asked_at = 0.0
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._write)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: Any) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._asked_at = signal.Signals(number).name, now
        elif number != signal.SIGUSR1 and (self.asked == "SIGUSR1" or now - self._asked_at > 1.0):
            self.hurry = True

    def wake(self) -> None:
        """Ends a wait early; for other threads."""
        try:
            os.write(self._write, b"w")
        except OSError:
            pass

    def wait(self, seconds: float) -> None:
        """Returns after that time, or at once when a signal came."""
        select.select([self._read], [], [], max(0.0, seconds))
        try:
            while os.read(self._read, 4096):
                pass
        except OSError:
            pass


# ---- address and ports


class Place(NamedTuple):
    host: str
    ports: Dict[str, int]

    @property
    def port(self) -> int:
        return self.ports["port"]


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def can_bind(address: str) -> bool:
    try:
        with socket.socket(family_of(address), socket.SOCK_STREAM) as s:
            s.bind((address, 0))
        return True
    except OSError:
        return False


def addresses_of_hostname() -> List[str]:
    """IPv4 before IPv6. Bounded, for a broken DNS can keep a resolver busy for minutes."""
    found = []  # type: List[str]

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(socket.gethostname(), None, 0, socket.SOCK_STREAM)
        except OSError:
            return
        found.extend(str(row[4][0]) for row in sorted(rows, key=lambda row: row[0] != socket.AF_INET))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(10)
    return [address for address in found if "%" not in address and not address.startswith("fe80")]


def address_of_interface(name: str) -> str:
    """The IPv4 address of a network interface, or an empty text."""
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            return socket.inet_ntoa(fcntl.ioctl(s.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR
        except OSError:
            return ""


def address_of_route() -> str:
    """The address from which packets leave by the default route. Connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            return str(s.getsockname()[0])
        except OSError:
            return ""


def choose_address(interface: str) -> str:
    """The address to bind and to publish; see --interface."""
    for address in candidates(interface):
        if address and can_bind(address):
            return address
    names = ", ".join(name for _, name in socket.if_nameindex())
    raise Ended(1, "no address to bind for --interface %s; this node's interfaces: %s" % (interface, names))


def candidates(interface: str) -> List[str]:
    named = addresses_of_hostname() if interface in ("auto", "hostname") else []
    if interface == "hostname":
        return named
    if interface != "auto":
        return [address_of_interface(interface) or interface]
    virtual = ("lo", "docker", "veth", "virbr", "br-", "cni")
    others = [address_of_interface(n) for _, n in socket.if_nameindex() if not n.startswith(virtual)]
    outside = [a for a in named + [address_of_route()] + others if not is_loopback(a)]
    return outside + named + ["127.0.0.1"]


def choose_place(host: str, names: Iterable[str], low: int, high: int, avoid: Set[int]) -> Place:
    """A free port for each name. All are held until all are found; whoever takes one after that makes us try again."""
    wanted = list(range(low, high + 1)) if low else [0] * 64
    random.SystemRandom().shuffle(wanted)
    held = []  # type: List[socket.socket]
    ports = {}  # type: Dict[str, int]
    try:
        for name in names:
            while name not in ports:
                if not wanted:
                    where = "from %d to %d " % (low, high) if low else ""
                    raise Ended(1, "no free port %son %s" % (where, host))
                held.append(socket.socket(family_of(host), socket.SOCK_STREAM))
                try:
                    held[-1].bind((host, wanted.pop()))
                except OSError:
                    continue
                port = int(held[-1].getsockname()[1])
                if port not in avoid:
                    ports[name] = port
    finally:
        for s in held:
            s.close()
    return Place(host, ports)


def fill(text: str, place: Place) -> str:
    """Puts the address and ports into one argument of the command."""
    values = dict({"host": place.host}, **{name: str(port) for name, port in place.ports.items()})
    return re.sub(r"\{(host|port[123]?)\}", lambda found: values[found.group(1)], text)


def ports_used(command: Sequence[str]) -> List[str]:
    """`port`, and those of port1 to port3 that the command names: in a narrow range none is wasted."""
    return [name for name in PORT_NAMES if name == "port" or any("{%s}" % name in arg for arg in command)]


# ---- /proc


class Process(NamedTuple):
    pid: int
    parent: int
    session: int
    state: str
    ticks: int
    started: int


def processes() -> List[Process]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    f = file.read().decode("utf-8", "replace").rpartition(")")[2].split()
                ticks = int(f[11]) + int(f[12])
                found.append(Process(int(name), int(f[1]), int(f[3]), f[0], ticks, int(f[19])))
            except (OSError, IndexError, ValueError):
                continue
    return found


def tree(root: int) -> List[Process]:
    """The server and everything that it started: its descendants, and its session (orphans stay in it)."""
    everything = processes()
    inside = {p.pid for p in everything if p.pid == root or p.session == root}
    grown = True
    while grown:
        more = {p.pid for p in everything if p.parent in inside} - inside
        inside, grown = inside | more, bool(more)
    return [p for p in everything if p.pid in inside]


class Socket(NamedTuple):
    listening: bool
    queued: bool
    inode: str


def sockets(host: str, port: int) -> Optional[List[Socket]]:
    """Listening and connected sockets of this node on our address and port; None where /proc does not tell."""
    found, told = [], False
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        told = True
        for row in rows:
            if len(row) > 9 and row[3] in ("01", "0A") and is_local_end(row[1], host, port):
                found.append(Socket(row[3] == "0A", row[4] != "00000000:00000000", row[9]))
    return found if told else None


def is_local_end(text: str, host: str, port: int) -> bool:
    digits, _, port_text = text.partition(":")
    if int(port_text, 16) != port:
        return False
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    raw = struct.pack("=%dI" % len(words), *words)
    address = socket.inet_ntop(socket.AF_INET6 if len(words) == 4 else socket.AF_INET, raw)
    return address in (host, "::ffff:" + host, "0.0.0.0", "::")


def held_by(pids: Iterable[int], inodes: Set[str]) -> Set[str]:
    """Which of these sockets the processes hold, as far as we may look."""
    links = {"socket:[%s]" % inode: inode for inode in inodes}
    found = set()  # type: Set[str]
    for pid in pids:
        try:
            for fd in os.listdir("/proc/%d/fd" % pid):
                found.add(links.get(os.readlink("/proc/%d/fd/%s" % (pid, fd)), ""))
        except OSError:
            continue
    return found - {""}


def job_of(pid: int) -> str:
    """The SLURM_JOB_ID in a process's environment; an empty text if it has none or we may not look."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            found = re.search(rb"(?:^|\0)SLURM_JOB_ID=([^\0]*)", file.read())
    except OSError:
        return ""
    return found.group(1).decode("utf-8", "replace") if found else ""


def listens(root: int, host: str, port: int, job_id: str) -> Optional[bool]:
    """Does our server hold the port? False: another job does, too or instead (SO_REUSEPORT). None: cannot be told.

    A server in a container or under srun is no descendant of ours, so only another job's process counts as a thief.
    """
    inodes = {s.inode for s in sockets(host, port) or () if s.listening}
    ours = {p.pid for p in tree(root)}
    if not inodes or inodes <= held_by(ours, inodes):
        return True if inodes else None
    strangers = [p.pid for p in processes() if p.pid not in ours and job_of(p.pid) not in ("", job_id)]
    return False if held_by(strangers, inodes) else None


# ---- the server


def server_environment(
    environ: Mapping[str, str], options: argparse.Namespace, key: str, place: Place
) -> Dict[str, str]:
    """Our own environment and what the server gets beyond it, also under the names that a container takes in."""
    given = {"PORT": str(place.port), "HOST": place.host, "ENGINE_REPLICA_KEY": key}
    given.update({name: key for name in options.key_env})
    result = dict(environ)
    for name, value in given.items():
        for prefix in ("", "APPTAINERENV_", "SINGULARITYENV_"):
            result[prefix + name] = value
    return result


def die_with_sidecar() -> None:
    """In the child: if the sidecar is killed, so is the server; it would hold its GPUs with nobody to speak for it."""
    LIBC.prctl(1, signal.SIGKILL)


try:
    LIBC = ctypes.CDLL(None)  # type: Any
    before_exec = die_with_sidecar if hasattr(LIBC, "prctl") else None  # type: Optional[Callable[[], None]]
except OSError:
    before_exec = None


class Server:
    """The server's process, in a session of its own; its output goes to our log, and the last lines are kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], key: str) -> None:
        self._key = key.encode()
        self._lines = collections.deque(maxlen=20)  # type: Any
        self._part = b""
        self.started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before_exec,
            )
        except OSError as error:
            raise Ended(1, "cannot start the server %r: %s" % (command[0], error.strerror)) from error
        self.pid = self._process.pid
        self._copier = threading.Thread(target=self._copy, daemon=True)
        self._copier.start()

    def _copy(self) -> None:
        """Must never stop while the server writes, or the server would block on a full pipe."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while True:
            try:
                data = os.read(fd, 65536).replace(self._key, b"***")
            except OSError:
                return
            if not data:
                return
            self._keep(data)
            try:
                while data:
                    data = data[os.write(1, data) :]
            except OSError:
                pass

    def _keep(self, data: bytes) -> None:
        parts = re.split(rb"[\r\n]+", self._part + data)
        self._part = parts.pop()[-4096:]
        self._lines.extend(part for part in parts if part.strip())

    def last_lines(self, count: int) -> List[str]:
        lines = list(self._lines) + ([self._part] if self._part.strip() else [])
        return [line.decode("utf-8", "replace").strip()[-300:] for line in lines[-count:]]

    @property
    def died(self) -> bool:
        return self._process.poll() is not None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started

    def port_was_taken(self) -> bool:
        self._copier.join(1)
        return bool(TAKEN.search("\n".join(self.last_lines(20))))

    def death(self, when: str) -> str:
        """One line: how it ended, after how long, and what it said last."""
        age_s = self.age_s
        self._copier.join(1)
        code = self._process.poll()
        how = "exited with code %s" % code
        if code is not None and code < 0:
            how = "was killed by %s" % signal_name(-code)
            how += " (often the memory limit)" if code == -signal.SIGKILL else ""
        said = " | ".join(self.last_lines(3)) or "nothing"
        return "the server %s %s, after %.0f s; its last lines: %s" % (how, when, age_s, said)

    def stop(self, kill_after_s: float) -> None:
        """TERM to the group, then KILL; then KILL whatever is left of the tree, groups of its own included."""
        left = tree(self.pid)
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            say("the server did not end within %.0f s of SIGTERM: killing it" % kill_after_s)
        left = list({p.pid: p for p in left + tree(self.pid)}.values())
        self._signal(signal.SIGKILL)
        now = {p.pid: p.started for p in processes()}
        for process in left:
            if now.get(process.pid) == process.started:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except OSError:
                    pass
        try:
            self._process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            say("the server (pid %d) does not end on SIGKILL; leaving it to the scheduler" % self.pid)
        self._copier.join(1)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


# ---- asking the server


class Reply(NamedTuple):
    """`status` 0: no answer, and `text` says why. `slow`: it may only be slow."""

    status: int
    text: str
    slow: bool = False

    def __str__(self) -> str:
        return "HTTP %d %s" % (self.status, " ".join(self.text.split())[:200]) if self.status else self.text


def ask(
    place: Place, path: str, key: str, body: Optional[Dict[str, Any]] = None, timeout_s: float = ASK_TIMEOUT_S
) -> Reply:
    """One request to our own server; http.client knows no proxies. The deadline is for all of it, not for each read."""
    deadline = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(place.host, place.port, timeout=timeout_s)
    headers = {"Authorization": "Bearer " + key, "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("POST" if data else "GET", path, data, headers)
        response = connection.getresponse()
        text = b""
        while len(text) < MAX_REPLY:
            if time.monotonic() > deadline:
                return Reply(0, "no whole answer within %.0f s" % timeout_s, True)
            part = response.read1(65536)  # type: bytes
            if not part:
                break
            text += part
        return Reply(response.status, text.decode("utf-8", "replace"))
    except (socket.timeout, TimeoutError):
        return Reply(0, "no answer within %.0f s" % timeout_s, True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Reply(0, "%s: %s" % (type(error).__name__, error), getattr(error, "errno", None) == errno.ETIMEDOUT)
    finally:
        connection.close()


def knock(place: Place) -> Reply:
    """Does the port accept? Status 200 or 0."""
    try:
        socket.create_connection((place.host, place.port), ASK_TIMEOUT_S).close()
        return Reply(200, "")
    except (socket.timeout, TimeoutError):
        return Reply(0, "port %d accepts no connection within %.0f s" % (place.port, ASK_TIMEOUT_S), True)
    except OSError as error:
        return Reply(0, "port %d: %s" % (place.port, error.strerror))


def busy_in(text: str, names: Iterable[str]) -> Optional[int]:
    """The sum of these Prometheus metrics over all their labels; None if none of them is there."""
    wanted, values = set(names), []
    for line in text.splitlines():
        found = re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+(\S+)", line)
        if found and found.group(1) in wanted:
            try:
                value = float(found.group(2))
            except ValueError:
                continue
            if math.isfinite(value):
                values.append(value)
    return int(math.ceil(sum(values))) if values else None


class Watch(threading.Thread):
    """Looks at the server again and again. The main thread reads its fields, which are single assignments.

    `ready`: both answers have come. `problem`: what is in the way of that. `stolen`: somebody else has the port.
    `refused`: it is healthy, but will never give us a token. `dead`: the engine is gone although the process lives.
    `idle`: looks in a row that found nobody being served, counted once draining.
    """

    def __init__(
        self, options: argparse.Namespace, key: str, place: Place, server: Server, wake: Callable[[], None]
    ) -> None:
        super().__init__(daemon=True)
        self.ready = self.stolen = False
        self.problem, self.refused, self.dead = "no answer yet", "", ""
        self.load_s = self.first_token_s = 0.0
        self.busy = None  # type: Optional[int]
        self.cpu_percent = None  # type: Optional[float]
        self.gpu_busy = False
        self.idle = 0
        self._options, self._key, self._place, self._server, self._wake = options, key, place, server, wake
        self._job_id = os.environ.get("SLURM_JOB_ID", "")
        self._halted = self._draining = False
        self._nudge = threading.Event()
        self._failures = 0
        self._refused_since = 0.0
        self._ticks = (time.monotonic(), {})  # type: Tuple[float, Dict[int, int]]
        self._quiet_since = time.monotonic()

    def halt(self) -> None:
        self._halted = True
        self._nudge.set()

    def drain(self) -> None:
        """From now on look every second, and count idle looks."""
        self.idle, self._draining, self._quiet_since = 0, True, time.monotonic()
        self._nudge.set()

    def run(self) -> None:
        pause_s = 0.05
        while not self._halted:
            try:
                self._step()
            except Exception as error:  # a fault of ours must neither end the watch unseen nor the server
                if self.problem != "the watch failed: %r" % error:
                    self.problem = "the watch failed: %r" % error
                    say(self.problem)
            pause_s = min(1.0, pause_s * 1.3)
            beat_s = self._options.heartbeat_s
            self._nudge.wait((min(1.0, beat_s) if self._draining else beat_s) if self.ready else pause_s)
            self._nudge.clear()

    def _step(self) -> None:
        if self.ready:
            self._look()
        else:
            self._try()
        if self.ready or self.stolen or self.refused:
            self._wake()

    # -- until ready

    def _try(self) -> None:
        health = self._health()
        if health.status != 200:
            self.problem, self._refused_since = "%s: %s" % (self._options.health, health), 0.0
            return
        self.load_s = self.load_s or self._server.age_s
        asked = time.monotonic()
        token = self._one_token(FIRST_TOKEN_TIMEOUT_S)
        if token.status != 200:
            self.problem = "healthy, but one token: %s" % (token,)
            self._note_refusal(token.status)
        elif self._listens() is False:
            self.problem, self.stolen = "another job listens on port %d" % self._place.port, True
        else:
            self.first_token_s = time.monotonic() - asked
            self._load_of_cpu()
            self.busy = self._busy()
            self.ready = True

    def _note_refusal(self, status: int) -> None:
        """A wrong key, model name or path does not heal, and should not cost an hour of a GPU."""
        if not 400 <= status < 500 or status in (408, 425, 429):
            self._refused_since = 0.0
            return
        self._refused_since = self._refused_since or time.monotonic()
        if time.monotonic() - self._refused_since > REFUSAL_PATIENCE_S:
            self.refused = self.problem

    def _health(self) -> Reply:
        if self._options.probe == "port":
            return knock(self._place)
        return ask(self._place, self._options.health, self._key)

    def _one_token(self, timeout_s: float) -> Reply:
        if self._options.probe == "port":
            return knock(self._place)
        path, body = PROBES[self._options.probe]
        return ask(self._place, path, self._key, dict(body, model=self._options.served_name), timeout_s)

    # -- while ready

    def _look(self) -> None:
        self._load_of_cpu()
        self.busy = self._busy()
        if self._draining:
            self.idle = self.idle + 1 if self._is_idle() else 0
            return
        health = self._health()
        self._failures = 0 if health.status == 200 else self._failures + 1
        if self._failures >= HEALTH_FAILURES:
            self._failures = 0
            self.dead = self._last_chance(health)

    def _last_chance(self, health: Reply) -> str:
        """Why the engine is dead, or an empty text. A slow one is alive: it works, or we cannot see its processes."""
        before, began = self._ticks_of_tree(), time.monotonic()
        token = self._one_token(self._options.probe_timeout_s)
        if 200 <= token.status < 500:
            return ""
        failed = "health failed %d times (%s)" % (HEALTH_FAILURES, health)
        if token.slow and self._works(before, began):
            say(failed + " and one token is slow, but the server works: keeping it")
            return ""
        return failed + ", and so did a request for one token (%s)" % (token,)

    def _works(self, before: Dict[int, int], began: float) -> bool:
        used = used_cpu_s(before, self._ticks_of_tree()) / max(0.001, time.monotonic() - began)
        stuck_in_io = any(p.state == "D" for p in tree(self._server.pid))
        return used >= 0.01 or stuck_in_io or self.gpu_busy or self._listens() is not True

    def _listens(self) -> Optional[bool]:
        return listens(self._server.pid, self._place.host, self._place.port, self._job_id)

    def _ticks_of_tree(self) -> Dict[int, int]:
        return {p.pid: p.ticks for p in tree(self._server.pid)}

    def _load_of_cpu(self) -> None:
        now, ticks = time.monotonic(), self._ticks_of_tree()
        then, before = self._ticks
        if before and now > then:
            self.cpu_percent = used_cpu_s(before, ticks) / (now - then) * 100
        self._ticks = (now, ticks)

    def _busy(self) -> Optional[int]:
        if not self._options.busy_metric:
            return None
        reply = ask(self._place, "/metrics", self._key)
        return busy_in(reply.text, self._options.busy_metric) if reply.status == 200 else None

    def _is_idle(self) -> bool:
        """By the server's own count; without one, by its connections.

        An open connection tells no more than that somebody may wait: the server is idle then only after the queues of
        its connections were empty, and its CPU still, for a while.
        """
        if self.busy is not None:
            return self.busy == 0
        found = sockets(self._place.host, self._place.port)
        if found is None:
            return False
        connected = [s for s in found if not s.listening]
        if any(s.queued for s in connected) or (self.cpu_percent or 0.0) >= 2.0:
            self._quiet_since = time.monotonic()
        return not connected or time.monotonic() - self._quiet_since >= QUIET_S


def used_cpu_s(before: Mapping[int, int], after: Mapping[int, int]) -> float:
    """CPU seconds between two looks at ticks by pid; one that ended in between takes its share with it."""
    return sum(max(0, ticks - before.get(pid, 0)) for pid, ticks in after.items()) / float(TICKS_PER_S)


class Gpus(threading.Thread):
    """Samples nvidia-smi, where there is one. In a thread: with a broken driver it hangs, and cannot even be killed."""

    def __init__(self, every_s: float, environ: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self._every_s = max(every_s, 1.0)
        self._program = shutil.which("nvidia-smi")
        self._only = environ.get("SLURM_JOB_GPUS") or environ.get("CUDA_VISIBLE_DEVICES") or ""
        self._samples = []  # type: List[Dict[str, Any]]
        self._sampled = 0.0

    def samples(self) -> List[Dict[str, Any]]:
        """The newest samples; none if they are old."""
        return self._samples if time.monotonic() - self._sampled < 3 * (self._every_s + GPU_TIMEOUT_S) else []

    def run(self) -> None:
        while self._program:
            text = self._ask(["-i", self._only]) if self._only else ""
            self._samples = parse_gpus(text or self._ask([]))
            self._sampled = time.monotonic()
            time.sleep(self._every_s)

    def _ask(self, which: List[str]) -> str:
        fields = "index,name,utilization.gpu,memory.used,memory.total"
        command = [str(self._program), "--query-gpu=" + fields, "--format=csv,noheader,nounits"] + which
        try:
            nothing = subprocess.DEVNULL
            done = subprocess.run(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, timeout=GPU_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def parse_gpus(text: str) -> List[Dict[str, Any]]:
    """GpuSample rows of nvidia-smi's CSV (index, name, %, MiB, MiB); `[N/A]` counts as 0."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [
        {
            "index": int(row[0]),
            "name": row[1],
            "utilisation_percent": number(row[2]),
            "memory_used_gb": round(number(row[3]) / 1024, 2),
            "memory_total_gb": round(number(row[4]) / 1024, 2),
        }
        for row in rows
        if len(row) == 5 and row[0].isdigit()
    ]


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


# ---- the host file


class Lease:
    """HOSTS_DIR/JOBID.json. A failing file system is told once, and tried again at each heartbeat.

    A job that Slurm started again while the first run still lives (a node that was only silent) has a higher restart
    count. It marks that in JOBID.fence before it loads; the older run leaves when it sees the mark or the newer file.
    """

    def __init__(self, folder: str, job_id: str, restart: int) -> None:
        self.path = os.path.join(folder, job_id + ".json")
        self.fence = os.path.join(folder, job_id + ".fence")
        self._folder, self._restart = folder, restart
        self._failing = False
        self.beat = 0

    def claim(self) -> None:
        """At the start: marks a restart, and takes away what an earlier run of this job left."""
        try:
            os.makedirs(self._folder, exist_ok=True)
            if self._restart:
                self._write(self.fence, {"restart": self._restart})
                if restart_in(self.path) < self._restart:
                    self._unlink(self.path)
        except OSError as error:
            say("cannot write into %s: %s; going on" % (self._folder, error.strerror))

    @property
    def fenced(self) -> bool:
        """Has a newer run of this job taken over?"""
        return max(restart_in(self.path), restart_in(self.fence)) > self._restart

    def renew(self, fields: Dict[str, Any]) -> None:
        self.beat += 1
        try:
            self._write(self.path, dict(fields, beat=self.beat, renewed_at=stamp()))
        except OSError as error:
            if not self._failing:
                say("cannot write the host file %s: %s; trying again at each heartbeat" % (self.path, error.strerror))
            self._failing = True
            return
        if self._failing:
            say("the host file %s is written again" % self.path)
        self._failing = False

    def remove(self) -> None:
        """Removes what is ours; a newer run's file stays. If it cannot be removed, its lease ends."""
        for path in (self.path, self.fence):
            for pause_s in (0.2, 1.0, 0.0):
                try:
                    if restart_in(path) == self._restart:
                        self._unlink(path)
                    break
                except OSError as error:
                    if not pause_s:
                        say("cannot remove %s: %s" % (path, error.strerror))
                    time.sleep(pause_s)

    def _write(self, path: str, fields: Dict[str, Any]) -> None:
        """Under another name first: readers see the old file or the new one, never a part."""
        temporary = os.path.join(self._folder, ".%s.%d" % (os.path.basename(path), os.getpid()))
        try:
            with open(temporary, "w") as file:
                file.write(json.dumps(fields, indent=2) + "\n")
            os.replace(temporary, path)
        except OSError:
            try:
                self._unlink(temporary)
            except OSError:
                pass
            raise

    @staticmethod
    def _unlink(path: str) -> None:
        try:
            os.unlink(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def restart_in(path: str) -> int:
    """The restart count in a host file or fence; -1 if there is none to read."""
    try:
        with open(path) as file:
            return int(json.load(file)["restart"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


# ---- the sidecar


class Sidecar:
    """From the start of the job to its end, top to bottom: run, load, serve, drain."""

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str], signals: Signals) -> None:
        self.options, self.environ, self.signals = options, environ, signals
        self.key = read_key(options.key_file)
        self.job_id = environ.get("SLURM_JOB_ID", "")
        if not re.match(r"[A-Za-z0-9_.-]+$", self.job_id) or self.job_id.startswith("."):
            raise Ended(2, "SLURM_JOB_ID is %r: the sidecar runs inside a job" % self.job_id)
        restart = environ.get("SLURM_RESTART_COUNT", "")
        self.restart = int(restart) if restart.isdigit() else 0
        self.started_at, self.ready_at, self.stage = stamp(), "", "ready"
        self.lease = Lease(options.hosts_dir, self.job_id, self.restart)
        self.gpus = Gpus(options.heartbeat_s, environ)
        self.next_beat = 0.0

    def run(self) -> None:
        """Always ends by raising Ended."""
        self.lease.claim()
        self.gpus.start()
        host = choose_address(self.options.interface)
        names, tried = ports_used(self.options.command), set()  # type: List[str], Set[int]
        for count in range(1, PORT_TRIES + 1):
            if self.signals.asked:
                raise Ended(0, "asked to leave (%s) before the server was started" % self.signals.asked)
            place = choose_place(host, names, self.options.port_min, self.options.port_max, tried)
            tried.update(place.ports.values())
            try:
                self.one_server(place)
            except PortTaken as taken:
                say("port %d is taken (%s); try %d of %d failed" % (place.port, taken, count, PORT_TRIES))
        raise Ended(1, "no port stayed free in %d tries on %s: %s" % (PORT_TRIES, host, sorted(tried)))

    def one_server(self, place: Place) -> None:
        """Raises Ended or PortTaken; nothing of the server is left then, and no host file but a newer run's."""
        command = [fill(argument, place) for argument in self.options.command]
        environment = server_environment(self.environ, self.options, self.key, place)
        say("starting %s on %s port %d" % (os.path.basename(command[0]), place.host, place.port))
        server = Server(command, environment, self.key)
        watch = Watch(self.options, self.key, place, server, self.signals.wake)
        watch.start()
        try:
            self.load(server, watch)
            self.serve(place, server, watch)
            self.drain(place, server, watch)
        except Ended as ended:
            if ended.code:
                self.lease.remove()
            raise
        finally:
            watch.halt()
            server.stop(self.options.kill_after_s)
            self.lease.remove()

    def load(self, server: Server, watch: Watch) -> None:
        """Returns when the server is ready."""
        next_progress = self.options.progress_s
        while not watch.ready:
            if time.monotonic() > self.next_beat:
                self.next_beat = time.monotonic() + self.options.heartbeat_s
                self.leave_if_fenced()
            if server.died:
                self.signals.wait(0.5)
            if self.signals.asked:
                raise Ended(0, "asked to leave (%s) while loading, after %.0f s" % (self.signals.asked, server.age_s))
            if server.died:
                if server.port_was_taken():
                    raise PortTaken(" | ".join(server.last_lines(1)))
                raise Ended(1, server.death("while loading"))
            if watch.stolen:
                raise PortTaken(watch.problem)
            if watch.refused:
                raise Ended(1, "the server refuses us for %.0f s: %s" % (REFUSAL_PATIENCE_S, watch.refused))
            if server.age_s > self.options.load_timeout_s:
                said = " | ".join(server.last_lines(3))
                raise Ended(1, "not ready after %.0f s: %s; its last lines: %s" % (server.age_s, watch.problem, said))
            if server.age_s > next_progress:
                next_progress += self.options.progress_s
                last = "; it says: %s" % server.last_lines(1)[0] if server.last_lines(1) else ""
                say("loading for %.0f s: %s%s" % (server.age_s, watch.problem, last))
            self.signals.wait(0.2)

    def serve(self, place: Place, server: Server, watch: Watch) -> None:
        """Returns when asked to leave."""
        self.ready_at, self.next_beat = stamp(), 0.0
        times = "loaded in %.1f s, first token after %.2f s" % (watch.load_s, watch.first_token_s)
        say("ready at %s port %d: %s" % (place.host, place.port, times))
        while not self.signals.asked:
            if server.died:
                # A plain scancel sends SIGTERM to the server and to us; ours may come a moment later.
                self.signals.wait(0.5)
                if self.signals.asked:
                    return
                raise Ended(1, server.death("while serving"))
            if watch.dead:
                raise Ended(1, "the engine is dead behind a living server: " + watch.dead)
            self.beat(place, watch)
            self.signals.wait(min(1.0, self.next_beat - time.monotonic()))

    def drain(self, place: Place, server: Server, watch: Watch) -> None:
        """Raises Ended when the last request has ended, or we were asked again, or time is up."""
        began = time.monotonic()
        settled, deadline = began + self.options.settle_s, began + self.options.settle_s + self.options.drain_timeout_s
        self.stage, self.next_beat, counting = "draining", 0.0, False
        say("draining (%s): taking no new requests" % self.signals.asked)
        while True:
            self.beat(place, watch)
            now = time.monotonic()
            if server.died:
                raise Ended(0, server.death("while draining"))
            if self.signals.hurry:
                raise Ended(0, "asked again to leave: stopping after %.0f s of draining" % (now - began))
            if counting and watch.idle >= 2:
                raise Ended(0, "drained in %.1f s" % (now - began))
            if now > deadline:
                raise Ended(0, "draining took its %.0f s and requests still ran: stopping" % (now - began))
            if now > settled and not counting:
                counting = True
                watch.drain()
            self.signals.wait(min(0.2, self.next_beat - now))

    def beat(self, place: Place, watch: Watch) -> None:
        """Renews the lease when it is time."""
        if time.monotonic() < self.next_beat:
            return
        self.next_beat = time.monotonic() + self.options.heartbeat_s
        self.leave_if_fenced()
        gpus = self.gpus.samples()
        watch.gpu_busy = any(gpu["utilisation_percent"] > 0 for gpu in gpus)
        self.lease.renew(self.fields(place, watch, gpus))

    def leave_if_fenced(self) -> None:
        if self.lease.fenced:
            was = "job %s was started again elsewhere (we are its restart %d)" % (self.job_id, self.restart)
            raise Ended(1, was + ": leaving it to the newer one")

    def fields(self, place: Place, watch: Watch, gpus: List[Dict[str, Any]]) -> Dict[str, Any]:
        """The host file but `beat` and `renewed_at`, as engine/fleet/hosts.py reads it."""
        return {
            "version": 1,
            "deployment": self.options.deployment,
            "index": self.options.index,
            "attempt": self.options.attempt,
            "job_id": self.job_id,
            "restart": self.restart,
            "stage": self.stage,
            "host": place.host,
            "port": place.port,
            "node": self.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "started_at": self.started_at,
            "ready_at": self.ready_at,
            "lease_s": self.options.lease_s,
            "timing": {"load_s": round(watch.load_s, 3), "first_token_s": round(watch.first_token_s, 3)},
            "busy": watch.busy,
            "cpu_percent": None if watch.cpu_percent is None else round(watch.cpu_percent, 1),
            "gpus": gpus,
        }


def main(argv: Sequence[str]) -> int:
    signals = Signals()
    try:
        Sidecar(parse(argv), os.environ, signals).run()
    except Ended as ended:
        say(("FAILED: %s" if ended.code else "left: %s") % ended)
        return ended.code
    finally:
        # What this job compiled is of no use to another.
        shutil.rmtree(os.environ.get("ENGINE_SCRATCH") or "/nonexistent", ignore_errors=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
