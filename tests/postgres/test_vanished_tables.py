"""A table that unfinished work has rows in is dropped between two runs: refused before anything runs, not made anew."""

from pathlib import Path
from typing import Any

import pytest

from batchwright import Job, Step, run
from batchwright.model.errors import GroundChangedError
from batchwright.writers import insert, route, upsert

HOWS = ["insert", "upsert", "other schema", "routed", "parts"]


def writer(fresh, how: str) -> Any:
    table = f'{fresh.name}."T.t"' if how == "other schema" else "t"
    one = upsert(fresh.url, table, key="n") if how == "upsert" else insert(fresh.url, table)
    return route({"t": one, "u": insert(fresh.url, "u")}, by=lambda row: "t") if how == "routed" else one


def load(fresh, folder: Path, how: str, *, limit: int | None = None, atomic: bool = False, **choices: bool) -> Any:
    options: dict[str, Any] = {"partitions": 2} if how == "parts" else {"atomic": atomic}
    items = list(range(6))
    step = Step("load", read=items, process=row_of, write=writer(fresh, how), chunk_size=2, **options)
    job = Job("j", step, parameters={"day": 1})
    return run(job, ledger=f"sqlite:///{folder}/ledger.db", limit=limit, check=False, **choices)


def row_of(item: int) -> dict[str, int]:
    return {"n": item}


def tables(fresh) -> list[str]:
    return [name for (name,) in fresh.rows(f"SELECT tablename FROM pg_tables WHERE schemaname = '{fresh.name}'")]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("choices", "left"), [({"adopt": True}, 2), ({"again": True, "yes": True}, 6)])
def test_a_table_that_is_gone_is_refused_and_both_choices_work(how, choices, left, fresh, tmp_path):
    load(fresh, tmp_path, how, limit=4)
    (table,) = tables(fresh)
    fresh.connection.execute(f'DROP TABLE "{table}"')
    with pytest.raises(GroundChangedError, match=r"a table that it has written to is gone; .* is gone from") as caught:
        load(fresh, tmp_path, how)
    assert "--adopt" in str(caught.value)
    assert tables(fresh) == []
    assert load(fresh, tmp_path, how, **choices).status.complete
    assert len(fresh.rows(f'SELECT * FROM "{table}"')) == left


@pytest.mark.parametrize("how", HOWS[:-1])
def test_a_staging_table_that_is_gone_is_found_before_anything_runs(how, fresh, tmp_path):
    load(fresh, tmp_path, how, limit=4, atomic=True)
    (stage,) = tables(fresh)
    fresh.connection.execute(f'DROP TABLE "{stage}"')
    for adopt in (False, True):
        with pytest.raises(GroundChangedError, match=r"4 outputs were staged, .*_batchwright_.* is gone") as caught:
            load(fresh, tmp_path, how, atomic=True, adopt=adopt)
        assert "--adopt" not in str(caught.value)
    assert tables(fresh) == []
    assert load(fresh, tmp_path, how, atomic=True, again=True).status.complete
    assert len(fresh.rows(f'SELECT * FROM "{tables(fresh)[0]}"')) == 6
