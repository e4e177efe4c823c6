"""How often work that may be slow looks at the clock: about every half second, whatever one item takes.

The one rule: what is fast never pays for it, since its passes grow until one of them is everything there is.
"""

CHUNK_SECONDS = 5.0
"""What takes longer than this is committed as far as it is."""

PASS_SECONDS = 0.5


def next_pass(items: int, seconds: float) -> int:
    """How many items to take before the next look at the clock, after a pass of so many that took so long."""
    if seconds < PASS_SECONDS / 4:
        return items * 4
    return max(1, items // 2) if seconds > PASS_SECONDS else items
