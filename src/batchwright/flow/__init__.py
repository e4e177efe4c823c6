"""What sits between read and write, and needs the engine's help to survive a restart.

The one rule: what is declared here is a value; the engine does the work, and keeps its state with the checkpoint.
"""
