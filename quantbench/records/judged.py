"""What calibrator `auto` found: every candidate, and the one that was taken."""

from quantbench.records.record import Record


class JudgedDb(Record):
    """The worst output in dB: `norms`, 20 log10 (sum |x| / sum |x - x_int8|) over the Euclidean norms of the samples,
    and `sqnr`, the ratio of energies."""

    norms: float
    sqnr: float


class Candidate(Record):
    """A threshold method: in the `first` round, biases as they are, and `finished`, as the result would be (None: it
    did not get there). Both None: no output could be compared."""

    method: str
    first: JudgedDb | None = None
    finished: JudgedDb | None = None


class Judged(Record):
    """`taken`: the best of `candidates`, judged on `samples` of the calibration samples; `corrected`: with its biases
    corrected; `apart`: on other samples than these."""

    taken: str
    samples: int
    corrected: bool
    apart: bool
    candidates: tuple[Candidate, ...]

    def in_words(self) -> str:
        """One line: `mse, 21.8 dB on 32 samples (minmax 21.2)`."""
        found = {each.method: each.finished.norms for each in self.candidates if each.finished is not None}
        if self.taken not in found:
            return f"{self.taken}, for no output could be compared"
        others = ", ".join(f"{name} {value:.1f}" for name, value in found.items() if name != self.taken)
        return f"{self.taken}, {found[self.taken]:.1f} dB on {self.samples} samples{f' ({others})' if others else ''}"
