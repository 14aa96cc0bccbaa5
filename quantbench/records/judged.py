"""What calibrator `auto` found: every candidate, and the one that was taken."""

from quantbench.records.record import Record


class Candidate(Record):
    """A threshold method, with dB of the worst output. `first_db`: in the first round, biases as they are; `judged_db`:
    of the finished model (None: it did not get there). Both None: no output could be compared."""

    method: str
    first_db: float | None = None
    judged_db: float | None = None


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
        found = {each.method: each.judged_db for each in self.candidates if each.judged_db is not None}
        if self.taken not in found:
            return f"{self.taken}, for no output could be compared"
        others = ", ".join(f"{name} {value:.1f}" for name, value in found.items() if name != self.taken)
        return f"{self.taken}, {found[self.taken]:.1f} dB on {self.samples} samples{f' ({others})' if others else ''}"
