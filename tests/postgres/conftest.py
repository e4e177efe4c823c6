"""One server for all tests of a process, and an empty place in it for each."""

from collections.abc import Iterator

import pytest
from tests.postgres.server import Fresh, Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    # Nothing here cuts the power, so that nothing need be on the disk; tests that kill the server start their own.
    with running_server(synchronous_commit="off") as server:
        yield server


@pytest.fixture
def fresh(server: Server) -> Iterator[Fresh]:
    fresh = server.fresh()
    yield fresh
    fresh.drop()
