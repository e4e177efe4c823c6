"""The command line. `main` is the entry point; every command is a file of its own, loaded when it is called."""

from batchwright.cli.program import main

__all__ = ["main"]
