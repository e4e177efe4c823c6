"""A process that a user's function forked, and that came back into the run instead of ending.

The one rule: it never goes on. It has the run's connections and sockets, and nobody who knows of it: what it wrote or
answered would be done a second time, or booked to another item. Even closing them would end those of the run.
"""

import os
from typing import Final

EXIT_CODE: Final = 70


def end_if_forked(process: int) -> None:
    """End this process at once, saying why, unless it is the one of this number."""
    if (here := os.getpid()) != process:
        told = (
            f"batchwright: process {here} was forked by a function of the job that runs in process {process}, and came "
            "back from it; it is ended here. Let it end with os._exit(), or start programs with subprocess\n"
        )
        os.write(2, told.encode())
        os._exit(EXIT_CODE)
