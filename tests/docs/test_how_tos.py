"""The list of how-tos names each of them."""

from pathlib import Path

HOW_TOS = Path(__file__).parents[2] / "docs" / "how-to"


def test_the_list_of_how_tos_names_each_page():
    listed = (HOW_TOS / "README.md").read_text()
    assert [
        page.name for page in HOW_TOS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in listed
    ] == []
