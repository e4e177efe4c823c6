"""One server for all tests of a process, and how the reference jobs go when nobody kills them."""

from collections.abc import Iterator

import pytest
from tests.crash.faults import Life
from tests.crash.fork_client import ForkClient, fork_client
from tests.crash.jobs import JOBS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder kills processes."""
    for item in items:
        if "tests/crash/" in item.path.as_posix():
            item.add_marker(pytest.mark.crash)


@pytest.fixture(scope="session")
def server() -> Iterator[ForkClient]:
    with fork_client() as client:
        yield client


@pytest.fixture(scope="session")
def lives(server: ForkClient) -> dict[str, Life]:
    return {job: server.life_of(job) for job in JOBS}
