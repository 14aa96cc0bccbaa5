"""Blocks as Markdown."""

from collections.abc import Sequence

from quantbench.report.blocks import Bars, Block, Cards, Section, Table, Text


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole report as Markdown."""
    parts = [f"# {title}", subtitle]
    for section in sections:
        if section.title:
            parts.append(f"## {section.title}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"> {block.text}" if block.kind else block.text
    if isinstance(block, Cards):
        return "\n".join(f"- **{figure}** {label} ({small})" for figure, label, small in block.cards)
    if isinstance(block, Bars):
        return ""  # the tables beside them say the same
    return _table(block)


def _table(table: Table) -> str:
    lines = [_row(table.head), _row(["---"] * len(table.head)), *(_row(row) for row in table.rows)]
    return "\n".join([table.caption, "", *lines] if table.caption else lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
