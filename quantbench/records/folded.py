"""What equalization and SmoothQuant did to a network before it was quantized, and why they passed others by."""

from typing import Literal

from quantbench.records.record import Record

Method = Literal["equalize", "smooth"]
Mode = Literal["auto", "on", "off"]
NAMES = {"equalize": "equalization", "smooth": "SmoothQuant"}


class FoldedSite(Record):
    """Channels that were scaled: who makes and who reads them, `alpha`, what that takes off the noise of the readers'
    outputs on held samples, the largest scale over the smallest."""

    method: Method
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    alpha: float
    gain_db: float
    spread: float


class PassedBy(Record):
    """A quantized layer whose input `method` could not scale, and why."""

    method: Method
    node: str
    reason: str


class Absorbed(Record):
    """`channels` of what `maker` gives were shifted; the range of that tensor fell to `share` of what it was."""

    maker: str
    readers: tuple[str, ...]
    channels: int
    share: float


class FoldTrial(Record):
    """The network with these methods (none: as it is), quantized: dB of the worst output on the judged samples, by
    norms and SQNR as calibrator auto has them; None where no output could be compared."""

    methods: tuple[Method, ...]
    norms_db: float | None
    sqnr_db: float | None


class Folded(Record):
    """`taken`: the methods that the network has; sites, absorptions and refusals of those that were asked for, and the
    `trials` on `samples` of the calibration samples that decided (none where `on` asked for it)."""

    equalize: Mode
    smooth: Mode
    taken: tuple[Method, ...] = ()
    sites: tuple[FoldedSite, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    passed_by: tuple[PassedBy, ...] = ()
    trials: tuple[FoldTrial, ...] = ()
    samples: int = 0

    def in_words(self) -> str:
        """One line: what was taken, at how many places, and by how much it led."""
        modes = {"equalize": self.equalize, "smooth": self.smooth}
        if not self.taken:
            asked = " and ".join(NAMES[method] for method, mode in modes.items() if mode != "off")
            why = "too little gain" if self.sites else "nothing can be scaled with a gain"
            return f"Channels: {asked} left out, {why}"
        places = sum(site.method in self.taken for site in self.sites)
        shifts = f", biases absorbed at {len(self.absorbed)}" if self.absorbed else ""
        decibels = {trial.methods: trial.sqnr_db for trial in self.trials}
        first, best = next(iter(decibels.values()), None), decibels.get(self.taken)
        led = "" if first is None or best is None else f": {best:.1f} dB at the worst output, {first:.1f} without"
        return f"Channels: {' and '.join(NAMES[method] for method in self.taken)} at {places} places{shifts}{led}"
