"""That no channel of a network was scaled, kept in a run folder for the next time: only what was changed is a stage."""

from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.records.folded import Folded
from quantbench.records.record import Record

_FILE = "folded.json"


class _Known(Record):
    key: str
    folded: Folded


def remember(state: Path, key: str, folded: Folded) -> None:
    """Keep `folded` in the folder `state` under `key`, the digest of all that it came of."""
    _Known(key=key, folded=folded).save(state / _FILE)


def remembered(state: Path, key: str) -> Folded | None:
    """What was kept under `key`; None where that is something else, or nothing."""
    try:
        known = _Known.load(state / _FILE)
    except (QuantbenchError, OSError):
        return None
    return known.folded if known.key == key else None


def forget(state: Path) -> None:
    """Leave nothing of it."""
    (state / _FILE).unlink(missing_ok=True)
