"""The shop, in a folder of its own that is the working directory."""

import pytest
from tests.unit.cli.shop import Shop


@pytest.fixture
def shop(tmp_path, monkeypatch, capsys) -> Shop:
    monkeypatch.chdir(tmp_path)
    for name in ("BATCHWRIGHT_LEDGER", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Shop(tmp_path, capsys)
