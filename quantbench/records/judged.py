"""What calibrator `auto` found: whose values it searched, how minmax came out beside mse, and what was taken."""

from quantbench.records.record import Record


class JudgedDb(Record):
    """The worst output in dB: `norms`, 20 log10 (sum |x| / sum |x - x_int8|) over the Euclidean norms of the samples,
    and `sqnr`, the ratio of energies."""

    norms: float
    sqnr: float


class Beside(Record):
    """mse and minmax on the same samples: SQNR of the worst output in dB, and by how many dB minmax leads in a sample,
    the mean weighted by the samples' share of the output's energy, with its standard error (negative: mse leads).
    `samples` that both ran on; `corrected`: with biases corrected."""

    samples: int
    corrected: bool
    mse_db: float
    minmax_db: float
    lead_db: float
    error_db: float


class Judged(Record):
    """`taken`: mse or minmax. Of `samples` that the float network ran on, `searched` are those whose values mse's
    thresholds were searched over: all (`samples`, and what else was calibrated on), or the few that hold nearly all of
    the energy of an output. `beside`: each comparison that was made; none where no output could be compared."""

    taken: str
    samples: int
    searched: int
    beside: tuple[Beside, ...] = ()

    @property
    def few(self) -> bool:
        """Whether thresholds were searched over the samples with signal alone."""
        return self.searched < self.samples

    def in_words(self) -> str:
        """One line: `mse; minmax is 1.2 dB behind on 16 samples`."""
        over = f" over the {self.searched} of {self.samples} samples that hold the output's energy" if self.few else ""
        if not self.beside:
            return f"{self.taken}{over}; no output could be compared with minmax's"
        last = self.beside[-1]
        side = "ahead" if last.lead_db > 0 else "behind"
        how = "" if self.taken == "minmax" or last.lead_db <= 0 else ", no more than chance"
        return f"{self.taken}{over}; minmax is {abs(last.lead_db):.1f} dB {side} on {last.samples} samples{how}"
