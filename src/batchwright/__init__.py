"""Batch processing: kill it anywhere, run it again, every good row is in exactly once."""
