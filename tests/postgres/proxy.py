"""A proxy before a PostgreSQL server that cuts connections at chosen moments of the protocol, most of them at COMMIT.

The one rule: what it did is known from the server, not from the client. Each cut COMMIT is kept with the number of its
transaction, and the server says in the end whether that was committed. A seed gives the same choices again, not the
same races.
"""

import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial

import psycopg
from tests.postgres.server import SECONDS

ENDS_A_REQUEST = b"QSHdcfX"
"""Types of messages after which the server may answer: until one of them, messages belong together."""

ASKS = re.compile(rb"\A(INSERT|UPDATE|COPY)|batchwright_(checkpoints|leases)")
"""A statement that asks what became of a commit, or is the first one of somebody who does not care."""

LONGEST_ROW = 4
"""So many cuts may follow each other with no commit in between. Whoever retries ten times must come through."""


class Cut(StrEnum):
    """Where the connection ends."""

    BEFORE = "before the COMMIT reaches the server"
    HALF = "in the middle of the COMMIT"
    LATE = "before the COMMIT, which arrives once the client asks about it"
    TOLD = "by a server that was told to end the session just before"
    RACED = "by a server that is told to end the session just after"
    FORWARDED = "after the COMMIT was forwarded"
    REPLIED = "after the answer came back, which is not delivered"
    MIDWAY = "in the middle of an INSERT or COPY"


AT_COMMIT = [cut for cut in Cut if cut is not Cut.MIDWAY]


class Link:
    """A client's connection and its counterpart at the server."""

    def __init__(self, client: socket.socket, port: int) -> None:
        self.client = client
        self.server = socket.create_connection(("127.0.0.1", port), SECONDS)
        for one in (self.client, self.server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(None)
        self.backend = 0
        self.withholds = False
        self.late = False
        self.locks = False

    def follow(self, sql: bytes) -> None:
        """Know whether the transaction holds a row that whoever asks about its commit has to wait for."""
        if sql == b"BEGIN":
            self.locks = False
        elif re.match(rb"(INSERT|UPDATE) .*batchwright_checkpoints|.*batchwright_leases", sql, re.DOTALL):
            self.locks = True

    def requests(self) -> Iterator[tuple[bytes, bytes]]:
        """What the client sends, up to each point where it may wait for an answer; with the last statement's SQL."""
        with self.client.makefile("rb") as stream:
            yield _message(stream, typed=False), b""
            statements: dict[bytes, bytes] = {}
            request, sql = b"", b""
            while message := _message(stream):
                request += message
                kind, body = message[:1], message[5:]
                if kind == b"Q":
                    sql = body.rstrip(b"\0")
                elif kind == b"P":
                    name, query, _ = body.split(b"\0", 2)
                    statements[name] = query
                elif kind == b"B":
                    sql = statements.get(body.split(b"\0", 2)[1], b"")
                elif kind == b"d":
                    sql = b"COPY"
                if kind in ENDS_A_REQUEST:
                    yield request, sql
                    request, sql = b"", b""

    def answer(self) -> None:
        """Hand on what the server says, until it ends or the answer to a COMMIT is to be lost."""
        with self.server.makefile("rb") as stream:
            while message := _message(stream):
                if message[:1] == b"K":
                    self.backend = struct.unpack("!I", message[5:9])[0]
                if self.withholds:
                    if message[:1] == b"Z":
                        return
                else:
                    self.client.sendall(message)

    def end(self, *ends: socket.socket) -> None:
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on `port`; cuts by the seed, once it is `armed`. `cuts` are counted, `commits` are those in doubt."""

    def __init__(self, url: str, server_port: int, seed: int, *, often: float = 0.6, midway: float = 0.02) -> None:
        self._admin = psycopg.connect(url, autocommit=True)
        self._server_port = server_port
        self._chance, self._often, self._midway = random.Random(seed), often, midway
        self._lock = threading.Lock()
        self._late: Callable[[], None] | None = None
        self._row = 0
        self._threads: list[threading.Thread] = []
        self._links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.armed = False
        self.cuts: Counter[Cut] = Counter()
        self.commits: list[tuple[Cut, int]] = []
        self._start(self._accept)

    def outcomes(self) -> Counter[tuple[Cut, bool]]:
        """How many commits in doubt have taken effect, and how many have not, by the server's word."""
        found: Counter[tuple[Cut, bool]] = Counter()
        for cut, number in self.commits:
            row = self._admin.execute("SELECT pg_xact_status(%s::text::xid8)", [str(number)]).fetchone()
            assert row[0] in ("committed", "aborted"), row
            found[cut, row[0] == "committed"] += 1
        return found

    def close(self) -> None:
        self.armed = False
        self._release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in list(self._links):
            link.end(link.client, link.server)
        for thread in self._threads:
            thread.join(SECONDS)
        self._admin.close()

    def _start(self, target: Callable[..., None], *arguments: Link) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                link = Link(client, self._server_port)
            except OSError:
                client.close()
                continue
            self._links.append(link)
            self._start(self._serve, link)

    def _serve(self, link: Link) -> None:
        """One connection, from its first message to its end."""
        answers = threading.Thread(target=self._answer, args=[link], daemon=True)
        answers.start()
        with link.client, link.server:
            with suppress(OSError, ValueError):
                for request, sql in link.requests():
                    if not self._forward(link, request, sql):
                        break
            link.end(link.client, *(() if link.late else (link.server,)))
            answers.join(SECONDS)
        self._links.remove(link)

    def _answer(self, link: Link) -> None:
        with suppress(OSError):
            link.answer()
        link.end(link.client, link.server)

    def _forward(self, link: Link, request: bytes, sql: bytes) -> bool:
        """Send a request on, or as much of it as the cut leaves; whether the connection lives on."""
        with self._lock:
            link.follow(sql)
            cut = self._choose(link, sql)
            link.withholds, link.late = cut in (Cut.REPLIED, Cut.LATE), cut is Cut.LATE
            if cut is Cut.LATE:
                self._late = partial(link.server.sendall, request)
                return False
            if cut is Cut.TOLD:
                self._admin.execute("SELECT pg_terminate_backend(%s)", [link.backend])
            if cut is not Cut.BEFORE:
                half = len(request) // 2 if cut in (Cut.HALF, Cut.MIDWAY) else len(request)
                link.server.sendall(request[:half])
            if cut is Cut.RACED:
                self._admin.execute("SELECT pg_terminate_backend(%s)", [link.backend])
            if ASKS.search(sql):
                self._release()
        return cut in (None, Cut.REPLIED, Cut.RACED, Cut.TOLD)

    def _choose(self, link: Link, sql: bytes) -> Cut | None:
        chance = self._chance
        if not self.armed or self._late:
            return None
        cut, number = None, 0
        if sql == b"COMMIT":
            cuts = self._row < LONGEST_ROW and chance.random() < self._often
            if cuts and (number := self._number(link)):
                cut = chance.choice([each for each in AT_COMMIT if link.locks or each is not Cut.LATE])
                self.commits.append((cut, number))
            else:
                self._row = 0
        elif sql.startswith((b"INSERT", b"COPY")) and self._row < LONGEST_ROW and chance.random() < self._midway:
            cut = Cut.MIDWAY
        if cut is not None:
            self._row += 1
            self.cuts[cut] += 1
        return cut

    def _number(self, link: Link) -> int:
        """The number of the transaction that is open; 0 if it has written nothing."""
        sql = "SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE pid = %s"
        row = self._admin.execute(sql, [link.backend]).fetchone()
        return int(row[0] or 0) if row else 0

    def _release(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            with suppress(OSError):
                late()


def _message(stream, *, typed: bool = True) -> bytes:
    """The next message with its border; empty at the end of the stream, however sudden."""
    head = stream.read(5 if typed else 4)
    if len(head) < (5 if typed else 4):
        return b""
    body = stream.read(struct.unpack("!I", head[-4:])[0] - 4)
    return head + body
