"""What adaptive rounding did: the layers that it rounded anew, and those that it had no time for."""

from quantbench.records.judged import JudgedDb
from quantbench.records.record import Record

# File of the run folder.
ROUNDING = "rounding.json"


class RoundedLayer(Record):
    """A layer whose weights are rounded for its output. `before_db`, `after_db`: power of the output over that of the
    error that rounding the weights adds, on the images it was rounded on; `moved`: share of its weights that are not
    rounded to the nearest."""

    node: str
    before_db: float
    after_db: float
    moved: float


class RoundingJudged(Record):
    """The worst output on `samples` calibration samples (`apart`: they neither rounded weights nor corrected biases)
    with weights to the `nearest` and rounded adaptively, biases corrected (None: no output could be compared); `taken`:
    whether the latter is the result."""

    taken: bool
    apart: bool
    samples: int
    nearest: JudgedDb | None
    adaptive: JudgedDb | None


class RoundingFacts(Record):
    """`layers`, the worst first; `left_out`: layers that miss `least_db` too and were past `limit_seconds`; `images`:
    how many they were rounded on; `judged`: what it was taken or left for (None: it was asked for by name)."""

    least_db: float
    limit_seconds: float
    images: int
    layers: tuple[RoundedLayer, ...]
    left_out: tuple[str, ...] = ()
    judged: RoundingJudged | None = None

    def in_words(self) -> str:
        """One line: `12 layers, by 2.1 dB on the median`."""
        if not self.layers:
            return f"no layer's weights leave under {self.least_db:g} dB"
        gains = sorted(layer.after_db - layer.before_db for layer in self.layers)
        count = f"{len(self.layers)} layer{'s' if len(self.layers) > 1 else ''}"
        left = f"; {len(self.left_out)} more are past the limit of time" if self.left_out else ""
        return f"{count}, by {gains[len(gains) // 2]:.1f} dB on the median{left}{self._judgement()}"

    def _judgement(self) -> str:
        if self.judged is None:
            return ""
        if self.judged.nearest is None or self.judged.adaptive is None:
            return "; left, for no output could be compared"
        figures = f"{self.judged.adaptive.sqnr:.1f} dB at the worst output, {self.judged.nearest.sqnr:.1f} without"
        return f"; {'taken' if self.judged.taken else 'left'}: {figures}"
