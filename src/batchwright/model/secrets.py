"""Keep secrets out of texts: whatever is stored, shown or compared goes through here first."""

import json
from collections.abc import Sequence

HIDDEN = "***"


def scrub(text: str, secrets: Sequence[str]) -> str:
    """The text without secrets and without what no database stores (lone surrogates)."""
    for secret in sorted(secrets, key=len, reverse=True):
        # As it is, and as it stands inside JSON and inside a repr().
        for form in (secret, json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]):
            text = text.replace(form, HIDDEN)
    return text.encode("utf-8", "backslashreplace").decode()
