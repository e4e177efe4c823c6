"""How long a lease lasts, and how often it is renewed."""

import pytest

from batchwright.ledgers.postgres_lease import LeaseTimes
from batchwright.model.errors import DeclarationError


@pytest.mark.parametrize("times", [(5, 10, 5), (0, 30, 10), (5, 30, 0), (5, 30, 40)])
def test_times_that_do_not_fit_each_other_are_refused(times):
    with pytest.raises(DeclarationError, match="two heartbeats"):
        LeaseTimes(*times)
