"""Rows of one chunk that have the same key: which of them an upsert writes.

The one rule: a policy looks at one chunk. Of equal keys in different chunks the later one always wins.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from batchwright.model.errors import DeclarationError, WriteError

Duplicates = Literal["last", "first", "fail"]

Policy = Literal["last", "first", "fail", "each"]
"""What becomes of rows with one key; `each`: all are written, one after the other, and the database compares them."""


def check_policy(policy: str) -> None:
    """Raise DeclarationError for a policy that is none."""
    if policy not in ("last", "first", "fail"):
        raise DeclarationError("upsert: duplicates must be 'last', 'first' or 'fail'", f"got {policy!r}")


def policy_of(version: str, duplicates: Duplicates) -> Policy:
    """What becomes of rows with one key in a table whose rows may have versions."""
    return "each" if version else duplicates


def write_each_key_once(
    write: Callable[[Sequence[int]], dict[int, BaseException]],
    keys: Sequence[tuple[Any, ...]] | None,
    indexes: Sequence[int],
    policy: Policy,
) -> dict[int, BaseException]:
    """Write the rows at these indexes; of those with one key, only the one that the policy says.

    If that one is refused, the next takes its place: what is not written is among the errors, or was overwritten.
    `write` answers with the errors of the rows that were refused. `keys` None: rows have no key.
    """
    if keys is None:
        return write(indexes)
    errors: dict[int, BaseException] = {}
    while indexes:
        kept, repeated = _one_of_each(keys, indexes, policy)
        failed = write(kept)
        errors |= repeated | failed
        if policy == "each":
            written = {*kept}
            indexes = [index for index in indexes if index not in written]
            continue
        again, done = {keys[index] for index in failed}, {*kept, *errors}
        indexes = [index for index in indexes if keys[index] in again and index not in done]
    return errors


def _one_of_each(
    keys: Sequence[tuple[Any, ...]], indexes: Sequence[int], policy: Policy
) -> tuple[Sequence[int], dict[int, BaseException]]:
    """Which of the rows at these indexes to write, in order, and the errors of those that fail.

    Those not written and not failed are overwritten by another. A key with None in it equals no other.
    """
    last = {keys[index]: index for index in indexes}
    if len(last) == len(indexes):
        return indexes, {}
    seen: set[tuple[Any, ...]] = set()
    errors: dict[int, BaseException] = {}
    kept = []
    for index in indexes:
        key = keys[index]
        if None in key or (last[key] == index if policy == "last" else key not in seen):
            kept.append(index)
        elif policy == "fail":
            errors[index] = WriteError(
                "two rows of a chunk have the same key", f"the key is {key!r}", "duplicates='last' would write the last"
            )
        seen.add(key)
    return kept, errors
