"""Machines in network namespaces, with a switch between them that loses packets on request, without any error.

    host-a ──┐
    host-b ──┤ switch (a bridge in a namespace of its own)
    server ──┘

The one rule: nothing of this machine's own network is touched; what is made bears this process's number and is removed.
Who is where is known beforehand (no ARP), so that a cut is silence and not "no route to host".
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("server", "host-a", "host-b")

LOST = "02:00:00:00:00:ff"
"""The address of a network card that nobody has."""


def why_not() -> str:
    """Why there can be no namespaces here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    if missing := [name for name in ("ip", "unshare", "setpriv", "hostname") if not shutil.which(name)]:
        return f"needs {', '.join(missing)}"
    probe = f"bwp{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    try:
        if made.returncode == 0:
            bridge = ["ip", "-n", probe, "link", "add", "br0", "type", "bridge"]
            made = subprocess.run(bridge, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return f"no network namespaces: {made.stderr.strip()}" if made.returncode else ""


class Network:
    """A server and two hosts. Each reaches the server by an address of its own: 10.99.0.1 and 10.99.1.1."""

    def __init__(self) -> None:
        self._mark = f"bw{os.getpid()}"
        self._switch = f"{self._mark}-switch"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for number, name in enumerate(NAMES):
            self._plug_in(number, name)
        for number, name in enumerate(NAMES[1:]):
            _ip("-n", self.space("server"), "address", "add", f"10.99.{number}.1/24", "dev", "net0")
            _ip("-n", self.space(name), "address", "add", f"10.99.{number}.2/24", "dev", "net0")
            self._knows(name, f"10.99.{number}.1", _mac(0))
            self._knows("server", f"10.99.{number}.2", _mac(number + 1))

    def server_address(self, host: str) -> str:
        return f"10.99.{NAMES.index(host) - 1}.1"

    def space(self, name: str) -> str:
        return f"{self._mark}-{name}"

    def inside(self, name: str, *, renamed: bool = True) -> list[str]:
        """What stands before a command that is to run there; the process keeps its number."""
        uts = ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$0" "$@"'] if renamed else []
        return ["ip", "netns", "exec", self.space(name), *uts]

    def cut(self, host: str) -> None:
        """Every packet from and to this host is lost from now on."""
        _ip("-n", self._switch, "link", "set", host, "nomaster")

    def lose_answers(self, host: str) -> None:
        """Packets to the server arrive; what it answers is lost."""
        self._knows("server", f"10.99.{NAMES.index(host) - 1}.2", LOST)

    def heal(self, host: str) -> None:
        """All packets arrive again."""
        _ip("-n", self._switch, "link", "set", host, "master", "br0")
        number = NAMES.index(host)
        self._knows("server", f"10.99.{number - 1}.2", _mac(number))

    def close(self) -> None:
        for name in (*map(self.space, NAMES), self._switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _plug_in(self, number: int, name: str) -> None:
        space = self.space(name)
        _ip("netns", "add", space)
        _ip("-n", self._switch, "link", "add", name, "type", "veth", "peer", "name", "net0", "netns", space)
        _ip("-n", space, "link", "set", "net0", "address", _mac(number), "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "set", name, "master", "br0", "up")

    def _knows(self, name: str, address: str, mac: str) -> None:
        _ip("-n", self.space(name), "neigh", "replace", address, "lladdr", mac, "dev", "net0", "nud", "permanent")


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number + 1:02x}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
