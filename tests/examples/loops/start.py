"""Start a script in a process that is to die: `python -m tests.examples.loops.start KILL BUG SCRIPT …`; `-` for none.

KILL is `line:N`, `POINT:N` or `count`, which prints how many lines of batchwright's code were executed.
"""

import os
import runpy
import sys

from tests.crash.faults import arm, count_lines

from batchwright.writers.loop_bodies import BodySink


def commit_apart() -> None:
    """The planted bug: what a body writes is committed item by item, apart from the checkpoint."""
    keep = BodySink.keep_item

    def keep_and_commit(sink: BodySink) -> bool:
        kept = keep(sink)
        if kept:
            sink._raw.execute("COMMIT")
            sink._raw.execute("BEGIN")
        return kept

    BodySink.keep_item = keep_and_commit


def main(kill: str, bug: str, script: str) -> None:
    def run() -> None:
        runpy.run_path(script, run_name="__main__")

    if bug != "-":
        commit_apart()
    if kill == "count":
        print(count_lines(run))  # noqa: T201 - that is what it is asked for
        return
    if kill != "-":
        arm(kill)
    run()


if __name__ == "__main__":
    given, planted, path = sys.argv[1:4]
    sys.argv = sys.argv[3:]
    main(given, planted, os.fspath(path))
