"""Named points at which a test may kill the process: K1 to K28 of the life of a chunk and its effects.

Reaching a point is a `sys.audit` event named `batchwright.<point>`: free of state, and nothing happens unless somebody
has installed an audit hook (`batchwright.testing` does, in a process of its own).

K1 before claim · K2 after claim · K3 reader open · K4 inside read · K5 inside process · K6 after last process ·
K7 after BEGIN · K8 between two writes · K9 after writes · K10 after the checkpoint row · K11 before COMMIT is sent ·
K13 committed, memory not advanced · K14 file synced, checkpoint not committed · K15 renamed, directory not synced ·
K16 published, ledger still prepared · K17 inside failure recording · K18 inside isolation of bad rows ·
K19 in an observer · K21 step completion · K22 job completion · K24 an effect's intent is durable, it is not called ·
K25 called, not recorded · K26 a compensation's intent is durable, it is not called · K27 called, not recorded ·
K28 the plan of a step in partitions is in the target, nothing else of the step is.
(K12 and K20 belong to databases over a network.)
"""

import sys

FAULT_POINTS = tuple(f"K{number}" for number in (*range(1, 12), *range(13, 20), 21, 22, *range(24, 29)))


def reach(point: str) -> None:
    """Say that this point is reached."""
    sys.audit(f"batchwright.{point}")
