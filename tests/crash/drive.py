"""`batchwright` in a process that is to die: `python -m tests.crash.drive KILL BUG run …`; `-` for none.

The one rule: apart from the kill, the bug and the clock it is the real command.
"""

import sys

from tests.crash.clock import run_by_it
from tests.crash.faults import arm
from tests.crash.planted import BUGS

from batchwright.cli import main

if __name__ == "__main__":
    kill, bug = sys.argv[1:3]
    del sys.argv[1:3]
    if bug != "-":
        BUGS[bug](setattr)
    if kill != "-":
        arm(kill)
    run_by_it()
    sys.exit(main())
