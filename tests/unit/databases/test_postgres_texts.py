"""Texts with NUL, stored where there is none."""

from hypothesis import given
from hypothesis import strategies as st

from batchwright.databases.postgres_texts import escaped, unescaped


@given(st.text(alphabet="\0\x10a0", max_size=12) | st.text() | st.none() | st.integers() | st.binary())
def test_what_comes_back_is_what_was_stored(value):
    assert unescaped(escaped(value)) == value
    assert not isinstance(value, str) or "\0" not in escaped(value)


def test_an_ordinary_text_is_stored_as_it_is():
    assert escaped("Zoë 🛫 \\x00") == "Zoë 🛫 \\x00"
