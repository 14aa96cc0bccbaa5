"""Blocks as Markdown. Whatever stands in a block is text: a name of a file or layer makes no link, heading or HTML."""

import re
from collections.abc import Sequence

from quantbench.report.blocks import Bars, Block, Cards, Section, Table, Text
from quantbench.terminal import one_line

# What begins something in CommonMark 0.31 or GitHub's flavour, wherever it stands: emphasis, code, strikethrough,
# tables, math; the two halves of a link or of a definition; tags and autolinks; entities; an underscore not in a word.
_INLINE = re.compile(
    r"[\\`*|~$]|\](?=[(\[:])|!(?=\[)|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\."
)
# What begins a block at the start of a line: heading, list, quotation, rule, underline of a heading.
_BLOCK = re.compile(r"^(?:[#>=+-]|\d{1,9}(?=[.)]))")


def escaped(text: str) -> str:
    """`text` in one line of Markdown that shows just it, control characters as their escapes."""
    return _INLINE.sub(lambda found: "\\" + found[0], one_line(text))


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole report as Markdown."""
    parts = [f"# {escaped(title)}", _paragraph(subtitle)]
    for section in sections:
        if section.title:
            parts.append(f"## {escaped(section.title)}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        text = _paragraph(block.text) + (f" {_code(block.code)}" if block.code else "")
        return f"> {text}" if block.kind else text
    if isinstance(block, Cards):
        return "\n".join(f"- **{escaped(f)}** {escaped(label)} ({escaped(small)})" for f, label, small in block.cards)
    if isinstance(block, Bars):
        return ""  # the tables beside them say the same
    return _table(block)


def _paragraph(text: str) -> str:
    line = escaped(text.strip())
    found = _BLOCK.match(line)
    if found is None:
        return line
    end = found.end()
    # Of "1." the full stop is what counts; a digit cannot be escaped.
    return f"{line[:end]}\\{line[end:]}" if found[0].isdigit() else f"\\{line}"


def _code(text: str) -> str:
    """A code span; nothing is escaped in one, so its fence is longer than any run of backticks in it."""
    line = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line[:1] in ("`", " ") or line[-1:] in ("`", " ") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _table(table: Table) -> str:
    lines = [_row(table.head), _rule(len(table.head)), *(_row(row) for row in table.rows)]
    return "\n".join([_paragraph(table.caption), "", *lines] if table.caption else lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def _rule(columns: int) -> str:
    return "| " + " | ".join(["---"] * columns) + " |"
