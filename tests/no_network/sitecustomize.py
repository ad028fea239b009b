"""No test reaches the network: a connection that leaves this machine raises, and is written down. And where
ARC_SIMULATED_CUDA is set, a GPU is simulated.

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


def _simulate_cuda_with_torch() -> None:
    """Switch the simulated GPU on as soon as torch has been imported, and not before: most processes need no torch."""
    import importlib.abc
    import importlib.util

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name != "torch":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec("torch")
            execute = spec.loader.exec_module

            def execute_and_simulate(module):
                execute(module)
                sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
                importlib.import_module("simulated_cuda").install_from_environment()

            spec.loader.exec_module = execute_and_simulate
            return spec

    sys.meta_path.insert(0, Finder())


if os.environ.get("ARC_SIMULATED_CUDA"):
    _simulate_cuda_with_torch()
