"""The verbs of a run, in the order of an item's journey. Knows readers and writers only as ports."""
