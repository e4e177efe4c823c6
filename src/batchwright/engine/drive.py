"""Drive work that is written as a generator: it asks for a part to be done, and is told what came of it.

The one rule: what happens to a part, error or answer, happens inside the work, as if it had done the part itself. So
one text serves both `run`, which does each part at once, and a loop, whose parts are done by the code around it.
"""

from collections.abc import Callable, Generator
from typing import TypeVar

Part = TypeVar("Part")
Answer = TypeVar("Answer")
Outcome = TypeVar("Outcome")


def drive(work: Generator[Part, Answer, Outcome], do: Callable[[Part], Answer]) -> Outcome:
    """Do each part that the work asks for, until it ends; its outcome. Raises what the work lets through."""
    try:
        part = next(work)
        while True:
            try:
                answer = do(part)
            except BaseException as error:  # noqa: BLE001 - it is the work's affair, which raises it again or not
                part = work.throw(error)
            else:
                part = work.send(answer)
    except StopIteration as ended:
        outcome: Outcome = ended.value
        return outcome
