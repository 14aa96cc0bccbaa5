"""Blocks that a report is made of; the renderers know these and nothing of quantization."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. `kind`: "" plain, "note" for a remark, "warning" for what the reader must not miss. `code`: what
    follows it to be typed as it is."""

    text: str
    kind: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """Headline figures: (figure, label, small print) each."""

    cards: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; columns from the second on whose cells look like numbers are aligned right by the renderers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars: (label, value, shown text); lengths are relative to `largest` or to the largest value."""

    bars: tuple[tuple[str, float, str], ...]
    caption: str = ""
    largest: float | None = None


Block = Text | Cards | Table | Bars


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report."""

    title: str
    blocks: tuple[Block, ...]
