"""One server for all tests of a process, and an empty place in it for each."""

from collections.abc import Iterator

import pytest
from tests.postgres.server import Fresh, Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def fresh(server: Server) -> Iterator[Fresh]:
    fresh = server.fresh()
    yield fresh
    fresh.drop()
