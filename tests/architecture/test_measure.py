"""The limits on size. A limit that pinches is a sign that two things live in one place."""

import statistics

from tests.architecture.modules import ROOT, Definition, definitions, python_files, source_modules

FILE_LINES = 400
FUNCTION_LINES = 50
MEDIAN_LINES = 9
PARAMETERS = 6


def test_no_file_is_longer_than_400_lines():
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in python_files()
        if (count := len(path.read_text().splitlines())) > FILE_LINES
    ]
    assert not long, "\n".join(long)


def test_no_function_is_longer_than_50_lines():
    long = [f"{made.where}: {made.lines} lines" for made in functions() if made.lines > FUNCTION_LINES]
    assert not long, "\n".join(long)


def test_half_of_all_functions_have_at_most_9_lines():
    lengths = [made.lines for made in functions() if not made.stub]
    assert statistics.median(lengths) <= MEDIAN_LINES, f"the median of {len(lengths)} functions is too long"


def test_no_function_takes_more_than_6_parameters():
    many = [
        f"{made.where}: {len(made.parameters)} parameters"
        for made in functions()
        if len(made.parameters) > PARAMETERS and not is_constructor(made)
    ]
    assert not many, "\n".join(many)


def functions() -> list[Definition]:
    return [made for module in source_modules() for made in definitions(module)]


def is_constructor(made: Definition) -> bool:
    """What a user calls to declare or start something: its parameters are the vocabulary of the product."""
    declares = made.module.name in ("batchwright.launch", "batchwright.loops") or made.module.name.startswith(
        ("batchwright.readers.", "batchwright.writers.")
    )
    command = made.module.name.startswith("batchwright.cli.") and made.marked("command", "option", "argument")
    return command or (made.public and (made.node.name == "__init__" or (declares and made.owner is None)))
