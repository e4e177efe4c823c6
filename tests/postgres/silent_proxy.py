"""A proxy before a PostgreSQL server that falls silent: it takes whatever comes, hands nothing on and closes nothing.

The one rule: a connection that has lost a byte stays silent for ever; only new ones get through once it speaks again.
"""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.postgres.proxy import Link
from tests.postgres.server import SECONDS


class SilentProxy:
    """Listens on `port`. It falls silent when a statement matches, or at once by `hush`."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._pattern: re.Pattern[bytes] | None = None
        self._forwards = self._takes_all = self._all = False
        self._links: list[tuple[Link, threading.Event]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.fell_silent = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def silence(self, pattern: bytes, *, forwards: bool = False, all_others: bool = False) -> None:
        """Be silent from the next statement that matches on, for its connection or `all_others` too.

        With `forwards` the statement itself still reaches the server.
        """
        self._pattern, self._forwards, self._takes_all = re.compile(pattern), forwards, all_others

    def hush(self) -> None:
        """Be silent on every connection."""
        self._all = True
        for _, silent in list(self._links):
            silent.set()

    def speak(self) -> None:
        """Hand on what comes by new connections again."""
        self._all, self._pattern = False, None

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link, _ in list(self._links):
            link.end(link.client, link.server)
        for thread in self._threads:
            thread.join(SECONDS)
        for link, _ in self._links:
            link.client.close()
            link.server.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            link, silent = Link(client, self._server_port), threading.Event()
            if self._all:
                silent.set()
            self._links.append((link, silent))
            for work in (self._ask, self._answer):
                self._start(self._through, work, link, silent)

    def _through(self, work: Callable[[Link, threading.Event], None], link: Link, silent: threading.Event) -> None:
        with suppress(OSError, ValueError):
            work(link, silent)
        # The client has gone, or the server has: of a silent one nobody hears.
        if not silent.is_set():
            link.end(link.client, link.server)

    def _ask(self, link: Link, silent: threading.Event) -> None:
        for request, sql in link.requests():
            hit = self._pattern is not None and self._pattern.search(sql) is not None
            forwards = not silent.is_set() and (not hit or self._forwards)
            if hit:
                self._fall_silent(silent)
            if forwards:
                link.server.sendall(request)

    def _fall_silent(self, silent: threading.Event) -> None:
        self._pattern = None
        silent.set()
        if self._takes_all:
            self.hush()
        self.fell_silent.set()

    def _answer(self, link: Link, silent: threading.Event) -> None:
        while data := link.server.recv(65_536):
            if not silent.is_set():
                link.client.sendall(data)
