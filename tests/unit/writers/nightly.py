"""A job that is run night after night on one ledger, for tests of steps that publish all or nothing."""

from tests.unit.engine.runs import as_row, rows, run_here, url

from batchwright import Job, Step
from batchwright.ledgers.memory import MemoryLedger
from batchwright.writers import insert

STAGED = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '\\_batchwright%' ESCAPE '\\'"


class Nightly:
    """A job over a list that may be mended, on one ledger."""

    def __init__(self, path, items, write=None, process=as_row, **options):
        self.ledger = MemoryLedger()
        self.path, self.items, self.process = path, items, process
        self.options = {"write": write or insert(url(path), "t"), "atomic": True, "chunk_size": 3, **options}

    def job(self, **options):
        step = Step("load", read=lambda: iter(self.items), **{"process": self.process, **self.options, **options})
        return Job("nightly", step, parameters={"day": 1})

    def run(self, *, again=False, confirmed=False, **options):
        return run_here(self.job(**options), ledger=self.ledger, again=again, confirmed=confirmed)

    def staged(self):
        return rows(self.path, STAGED)


def refuse_seven(item):
    if item == 7:
        raise ValueError("seven")
    return {"x": item}


def exists(path, table="t"):
    return bool(rows(path, f"SELECT name FROM sqlite_master WHERE name = '{table}'"))
