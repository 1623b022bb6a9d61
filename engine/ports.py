"""Listening sockets and free ports."""

import socket
import time

from engine.errors import ConfigurationError

# A client that takes nothing of what it is sent for this long is gone, though its connection stands. As NGINX has it.
STALLED_S = 60


def listen(host: str, port: int, wait_s: float = 0.0) -> socket.socket:
    """A listening TCP socket; raises ConfigurationError when after `wait_s` the address is taken, or is not ours.

    The kernel ends its connections whose other side reads nothing for STALLED_S: nobody else could, for a server that
    waits for room to send hears of nothing.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            listener = socket.create_server((host, port), family=_family(host), backlog=4096)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
            return listener
        except OSError as error:
            if time.monotonic() >= deadline:
                why = str(error.strerror).partition(" (while")[0]
                told = f"cannot listen at {host}:{port}: {why}; set ENGINE_PORT, ENGINE_ADDRESS_PORT or ENGINE_HOST"
                raise ConfigurationError(told) from error
        time.sleep(0.1)


def is_free(host: str, port: int) -> bool:
    try:
        listen(host, port).close()
    except ConfigurationError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    with listen(host, 0) as found:
        return int(found.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
