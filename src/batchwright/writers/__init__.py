"""Where outputs go, by technology, each with its guarantee."""
