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


class FoldGain(Record):
    """What `method` would take off the noise of a layer's output, in dB: the mean over all quantized layers, those that
    it passes by included; told from `samples` of the calibration samples, `roughly` where moments stand for products
    (`quantbench.folding.rough_error`)."""

    method: Method
    gain_db: float
    samples: int
    roughly: bool


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
    """`taken`: the methods that the network has; sites, absorptions and refusals of those that were asked for, the gain
    that each promised, and the `trials` on `samples` of the calibration samples that decided (none where `on` asked
    for it). `seconds`: what all that took in a run of `ptq`."""

    equalize: Mode
    smooth: Mode
    taken: tuple[Method, ...] = ()
    sites: tuple[FoldedSite, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    passed_by: tuple[PassedBy, ...] = ()
    gains: tuple[FoldGain, ...] = ()
    trials: tuple[FoldTrial, ...] = ()
    samples: int = 0
    seconds: float | None = None

    def in_words(self) -> str:
        """One line: what was taken, at how many places, and by how much it led; or why nothing was."""
        modes = {"equalize": self.equalize, "smooth": self.smooth}
        decibels = {trial.methods: trial.sqnr_db for trial in self.trials}
        first, best = next(iter(decibels.values()), None), decibels.get(self.taken)
        if not self.taken:
            asked = " and ".join(NAMES[method] for method, mode in modes.items() if mode != "off")
            return f"Channels: left as they are, {self._why_not(asked, first)}"
        places = sum(site.method in self.taken for site in self.sites)
        shifts = f", biases absorbed at {len(self.absorbed)}" if self.absorbed else ""
        led = "" if first is None or best is None else f": {best:.1f} dB at the worst output, {first:.1f} without"
        return f"Channels: {' and '.join(NAMES[method] for method in self.taken)} at {places} places{shifts}{led}"

    def _why_not(self, asked: str, first: float | None) -> str:
        others = [trial.sqnr_db for trial in self.trials[1:] if trial.sqnr_db is not None]
        if self.trials:
            led = f" ({max(others):.1f} dB, {first:.1f} as they are)" if others and first is not None else ""
            methods = [method for method in NAMES if any(method in trial.methods for trial in self.trials[1:])]
            tried = " and ".join(NAMES[method] for method in methods) or asked
            return f"{tried} gained too little at the outputs{led}"
        best = max(self.gains, key=lambda found: found.gain_db, default=None)
        if best is not None and best.gain_db > 0:
            return f"{NAMES[best.method]} would take {best.gain_db:.1f} dB off the noise of a layer, in the mean"
        return f"nothing for {asked} to gain by"
