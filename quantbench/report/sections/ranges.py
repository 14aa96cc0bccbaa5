"""What the ranges do to the values: how many they clip, and how many become zero."""

from collections.abc import Iterable, Sequence

from quantbench.records.facts import RangeFacts
from quantbench.report.blocks import Section, Table, Text

_MOST = 12
# Half of what is not zero gone: an outlier stretches the range over nothing.
MUCH_LOST = 0.5


def sections(ranges: Sequence[RangeFacts]) -> tuple[Section, ...]:
    """A table of the tensors that are clipped most and of those that lose most of their small values; nothing where
    values were not counted."""
    known = [facts for facts in ranges if facts.share_zero is not None]
    if not known:
        return ()
    shown = [*_worst(known, "share_clipped"), *_worst(known, "share_lost")]
    rows = tuple(row_of(facts) for facts in dict.fromkeys(shown))
    text = (
        f"Shares of the values that calibration counted, for {len(known)} tensors with Q/DQ: clipped, what lies beyond "
        f"the range; zero, what is at most half a step large and becomes zero, zeros of the float model with it; "
        f"lost, the share of the values other than zero that becomes zero. Those with the most are shown; run.json "
        f"has all (calibration.ranges)."
    )
    return (Section("Clipped, and rounded to zero", (Text(text), Table(HEAD, rows))),)


HEAD = ("Tensor", "Range", "Largest seen", "Clipped", "Zero", "Lost")


def row_of(facts: RangeFacts) -> tuple[str, ...]:
    """The cells of one tensor under `HEAD`."""
    shares = (facts.share_clipped, facts.share_zero, facts.share_lost)
    return (facts.tensor, f"{facts.amax:.5g}", f"{facts.observed_max:.5g}", *(_percent(share) for share in shares))


def lossy(ranges: Iterable[RangeFacts]) -> list[RangeFacts]:
    """Tensors that lose most of their values to zero, the worst first."""
    found = [facts for facts in ranges if facts.share_lost is not None and facts.share_lost >= MUCH_LOST]
    return sorted(found, key=lambda facts: -(facts.share_lost or 0.0))


def _worst(ranges: Sequence[RangeFacts], share: str) -> list[RangeFacts]:
    return sorted(ranges, key=lambda facts: -float(getattr(facts, share) or 0.0))[: _MOST // 2]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f} %"
