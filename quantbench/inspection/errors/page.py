"""docs/build-errors.md, made of the table."""

from quantbench.inspection.errors.entry import ErrorEntry
from quantbench.inspection.errors.registry import ERRORS, SECTIONS


def errors_page() -> str:
    """The page as Markdown. `python -m quantbench.inspection.errors.page` prints it."""
    parts = [
        "# What TensorRT's errors mean\n\n"
        f"The {len(ERRORS)} errors that people meet most, as TensorRT prints them (`…` stands for what varies). "
        '`quantbench inspect BUILD.log` finds them in a log and says the same; `quantbench explain "TEXT OF THE '
        'ERROR"` '
        "explains one. Causes stand in order of likelihood, by our reading of public threads, of which one is named. "
        "In a log the first error counts: later ones mostly follow from it.\n\n"
        "This page is generated from `quantbench/inspection/errors/`: "
        "`python -m quantbench.inspection.errors.page > docs/build-errors.md`.\n"
    ]
    for heading, entries in SECTIONS.items():
        parts.append(f"\n## {heading}\n")
        parts.extend(_entry(entry) for entry in entries)
    return "".join(parts)


def _entry(entry: ErrorEntry) -> str:
    causes = "\n".join(f"{number}. {cause}" for number, cause in enumerate(entry.causes, 1))
    return (
        f"\n### {entry.name}\n\n```\n{entry.printed}\n```\n\n{entry.meaning}\n\n{causes}\n\n"
        f"Next: {entry.command}.\n\nSee [{entry.thread}]({entry.url}).\n"
    )


if __name__ == "__main__":
    print(errors_page(), end="")
