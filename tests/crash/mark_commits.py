"""As `drive`, and after each acknowledged commit a word is written to a file, which a trace of system calls shows."""

import os
import runpy
import sys

if __name__ == "__main__":
    null = os.open(os.devnull, os.O_WRONLY)
    sys.addaudithook(lambda event, _: os.write(null, b"committed") and None if event == "batchwright.K13" else None)
    runpy.run_module("tests.crash.drive", run_name="__main__")
