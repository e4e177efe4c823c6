"""Help for parameters out of docstrings."""

import pytest

from batchwright.cli.parameter_help import first_paragraph, parameter_help


def google(day, shop):
    """Sum up a day.

    Args:
        day (date): the day to
            sum up
        shop: only this shop

    Returns:
        A job.
    """


def numpy(day, shop):
    """Sum up a day.

    Parameters
    ----------
    day : date
        the day to
        sum up
    shop
        only this shop

    Returns
    -------
    Job
        a job
    """


def rest(day, shop):
    """Sum up a day.

    :param date day: the day to
        sum up
    :param shop: only this shop
    :returns: a job
    """


def prose(day, shop):
    """Sum up a day: of a shop."""


def bare(day, shop):
    pass


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_each_style_describes_its_parameters_and_nothing_else(function):
    assert parameter_help(function) == {"day": "the day to sum up", "shop": "only this shop"}
    assert first_paragraph(function) == "Sum up a day."


@pytest.mark.parametrize("function", [prose, bare])
def test_a_docstring_without_parameters_describes_none(function):
    assert parameter_help(function) == {}


def test_a_docstring_that_begins_with_parameters_has_no_first_paragraph():
    def job(day):
        """:param day: the day"""

    assert first_paragraph(job) == ""
