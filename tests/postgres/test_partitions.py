"""A host that is cut off from the server while its run is at work, another that takes over, a network that heals.

Namespaces stand for the machines; without the right to make them these tests are skipped. `BATCHWRIGHT_PARTITIONS=20
BATCHWRIGHT_SEED=7` cuts at more moments, and others.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.postgres.hosts import Network, network, why_not
from tests.postgres.moving_job import CHUNK, ITEMS
from tests.postgres.server import Server, running_server
from tests.postgres.two_hosts import UNINTERRUPTED, World, ended

pytestmark = pytest.mark.crash

PARTITIONS = int(os.environ.get("BATCHWRIGHT_PARTITIONS", "3"))

SEED = int(os.environ.get("BATCHWRIGHT_SEED") or random.randrange(1_000_000))

LEASE_SECONDS, LONG_LEASE_SECONDS = 3, 12

FENCED = ("another process has taken this work over", "cannot be trusted any more")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    if why := why_not():
        pytest.skip(f"{6 + PARTITIONS} partitions between two hosts: {why}")
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def server(net: Network) -> Iterator[Server]:
    inside = net.inside("server", renamed=False)
    with running_server(inside, listen_addresses="*", synchronous_commit="off") as server:
        yield server


@pytest.fixture
def world(net: Network, fresh, tmp_path) -> World:
    return World(net, fresh, tmp_path, LEASE_SECONDS)


KINDS = ("tables", "function")


@pytest.mark.parametrize("kind", KINDS)
def test_its_successor_completes_the_work_and_once_the_network_heals_it_does_nothing_more(kind, world):
    first = world.start("host-a", kind, GATE=55)
    world.wait_for_gate("host-a", first)
    world.network.cut("host-a")
    code, refused, said = world.take_over("host-b", kind)
    assert (code, refused > 0) == (0, True), said
    before = world.recorded()
    assert before[-2] == UNINTERRUPTED if kind == "tables" else before[-1] == list(range(ITEMS))
    assert first.poll() is None
    world.network.heal("host-a")
    world.open_gate("host-a")
    code, said = ended(first)
    assert code == 1, said
    assert any(words in said for words in FENCED), said
    assert "Traceback" not in said
    assert world.recorded() == before


@pytest.mark.parametrize("kind", KINDS)
def test_no_fence_would_be_seen(kind, world):
    first = world.start("host-a", kind, GATE=55, PLANTED="no fence")
    world.wait_for_gate("host-a", first)
    world.network.cut("host-a")
    assert world.take_over("host-b", kind)[0] == 0
    world.network.heal("host-a")
    world.open_gate("host-a")
    ended(first)
    assert Counter(world.calls() or world.held()[0].elements())[50] == 2


def cut_and_take_over(world: World, chance: random.Random) -> Counter[str]:
    """One run that is cut off at a moment of chance, and its successor; what happened."""
    rows, delay, patience = chance.randrange(ITEMS - CHUNK), chance.uniform(0, 0.05), chance.choice(("2000", "30000"))
    cut = chance.choice(("cut", "lose_answers"))
    url = world.url(tcp_user_timeout=patience, keepalives_idle="1", keepalives_interval="1")
    first = world.start("host-a", "tables", url=url, PACE=0.003)
    world.wait_for(f"SELECT count(*) > {rows} FROM rows")
    world.fresh.connection.execute(f"SELECT pg_sleep({delay})")
    getattr(world.network, cut)("host-a")
    code, refused, said = world.take_over("host-b", "tables", url=url)
    assert code == 0, said
    before, waits = world.recorded(), first.poll() is None
    world.network.heal("host-a")
    code, said = ended(first)
    assert code == 1, said
    assert "Traceback" not in said, said
    assert world.recorded() == before
    assert world.held() == UNINTERRUPTED
    fenced = any(words in said for words in FENCED)
    end = "still waiting when it healed" if waits else "ended by itself before it healed"
    return Counter({"starts refused": refused, end: 1, "fenced" if fenced else "out of reach": 1, cut: 1})


def test_cut_at_a_moment_of_chance_nothing_is_lost_and_nothing_there_twice(net, server, tmp_path, capsys):
    chance, seen = random.Random(SEED), Counter[str]()
    for number in range(PARTITIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        fresh = server.fresh()
        try:
            seen += cut_and_take_over(World(net, fresh, folder, LEASE_SECONDS), chance)
        finally:
            net.heal("host-a")
            fresh.drop()
    with capsys.disabled():
        what = ", ".join(f"{number} {words}" for words, number in sorted(seen.items()))
        sys.stderr.write(f"\n{PARTITIONS} partitions, 0 lost, 0 twice, seed {SEED}: {what}\n")


@pytest.mark.parametrize("moment", ["in an item", "between"])
def test_a_partition_that_heals_before_the_lease_is_over_costs_nothing(moment, net, fresh, tmp_path):
    world = World(net, fresh, tmp_path, LONG_LEASE_SECONDS)
    run = world.start("host-a", "tables", GATE=55 if moment == "in an item" else -1, PACE=0.003)
    if moment == "in an item":
        world.wait_for_gate("host-a", run)
    else:
        world.wait_for("SELECT count(*) > 50 FROM rows")
    net.cut("host-a")
    # Longer than a heartbeat's interval, so that one is lost for sure; shorter than the lease is trusted.
    silent = f"extract(epoch FROM clock_timestamp() - heartbeat_at) > {LONG_LEASE_SECONDS / 4}"
    world.wait_for(f"SELECT {silent} FROM {fresh.records}.batchwright_leases")
    net.heal("host-a")
    world.open_gate("host-a")
    code, said = ended(run)
    assert code == 0, said
    assert world.held() == UNINTERRUPTED
