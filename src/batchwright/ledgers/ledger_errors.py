"""How an error reads when what cannot be used is the ledger.

The one rule: it names the way to another ledger.
"""

from batchwright.model.errors import BatchwrightError, LedgerError

OTHER_LEDGER = "name another ledger with --ledger PATH or BATCHWRIGHT_LEDGER"


def as_ledger_error(error: BatchwrightError) -> LedgerError:
    """Another error about the ledger's database, with the way out named."""
    wrong = error.wrong if isinstance(error, LedgerError) else f"the ledger cannot be used: {error.wrong}"
    mend = error.mend.removesuffix(" or name another") or OTHER_LEDGER
    return LedgerError(wrong, error.found, mend if OTHER_LEDGER in mend else f"{mend}, or {OTHER_LEDGER}")
