"""Write the table and the diagram of docs/reference/statuses.md from the table of transitions."""

from pathlib import Path

from batchwright.model.status import TRANSITIONS, Status

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "statuses.md"
BEGIN, END = "<!-- made by tests/docs/statuses_page.py -->\n", "<!-- end -->\n"

MEANINGS = {
    Status.STARTING: "recorded, not yet at work",
    Status.RUNNING: "at work",
    Status.STOPPING: "at work, and asked to stop",
    Status.STOPPED: "stopped at a clean boundary; can be gone on with",
    Status.FAILED: "ended by an error, or by the death of its process; can be gone on with",
    Status.COMPLETED: "everything is written",
    Status.COMPLETED_WITH_FAILURES: "everything is written but what was set aside",
    Status.ABANDONED: "given up",
    Status.COMPENSATING: "its effects are being undone",
    Status.COMPENSATED: "its effects are undone",
    Status.COMPENSATION_FAILED: "some of its effects are not undone",
}


def described() -> str:
    """The table and the diagram."""
    rows = [
        f"| {status} | {MEANINGS[status]} | {', '.join(sorted(TRANSITIONS[status])) or 'nothing: final'} |"
        for status in TRANSITIONS
    ]
    arrows = [f"    {status} --> {after}" for status in TRANSITIONS for after in sorted(TRANSITIONS[status])]
    finals = [f"    {status} --> [*]" for status in TRANSITIONS if not TRANSITIONS[status]]
    diagram = ["```mermaid", "stateDiagram-v2", "    [*] --> STARTING", *arrows, *finals, "```"]
    return "\n".join(["", "| status | meaning | may become |", "|---|---|---|", *rows, "", *diagram, "", ""])


def page_with(content: str) -> str:
    """The page with this between its marks."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{head}{BEGIN}{content}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(described()))
