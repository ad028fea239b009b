"""No test reaches the network: a connection that leaves this machine raises, and is written down.

`tests/conftest.py` imports this and puts its folder on PYTHONPATH, so that every Python which a test starts
(a notebook's kernel, a subprocess) imports it too. It sees what goes through Python's `socket`.
"""

import os
import sys

ATTEMPTS = "ARC_NETWORK_ATTEMPTS"  # the file that attempts are written to


class NetworkBlocked(OSError):
    """A test tried to leave this machine."""


def _leaves_this_machine(host: object) -> bool:
    import ipaddress
    import socket

    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or name in ("", "localhost", socket.gethostname()):
        return False  # None and numbers: all interfaces, or not an internet address
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return True  # a name to look up
    if address.is_loopback or address.is_unspecified:
        return False
    try:  # a socket can be bound to an address of this machine alone; Ray's processes talk over one
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return True
    return False


def _guard(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        host = args[1][0] if isinstance(args[1], tuple) else None  # a Unix socket's address is a path
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if _leaves_this_machine(host):
        if ATTEMPTS in os.environ:
            with open(os.environ[ATTEMPTS], "a") as file:
                file.write(f"{event} {host}\n")
        raise NetworkBlocked(f"tests have no network: {event} to {host!r}")


sys.addaudithook(_guard)
