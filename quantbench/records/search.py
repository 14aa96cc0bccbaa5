"""What `sensitivity` and `tune` leave behind: costs of regions, and trials of variants."""

import glob
import shlex
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from quantbench.records.evaluation import Measured
from quantbench.records.folded import Method
from quantbench.records.record import Record

SENSITIVITY, TUNE = "sensitivity.json", "tune.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """One variant: threshold method, weighted nodes kept in float (sorted), whether biases are corrected; whether skip
    connections are left in float, the placement is the best by the predictor, weights are rounded adaptively, and
    channels are scaled by equalization or SmoothQuant."""

    calibrator: str = "minmax"
    keep_float: tuple[str, ...] = ()
    bias_correction: bool = True
    residual_float: bool = False
    best_placement: bool = False
    adaptive: bool = False
    equalize: bool = False
    smooth: bool = False

    def flags(self) -> str:
        """The same as options of `quantbench ptq`."""
        kept = "".join(f" --keep-float {shlex.quote(glob.escape(name))}" for name in self.keep_float)
        switches = {
            " --no-bias-correction": not self.bias_correction, " --residual-float": self.residual_float,
            " --placement best": self.best_placement, " --rounding adaptive": self.adaptive,
        }  # fmt: skip
        channels = "".join(f" --{method} {'on' if on else 'off'}" for method, on in
                           (("equalize", self.equalize), ("smooth", self.smooth)))  # fmt: skip
        return f"--calibrator {self.calibrator}{kept}{''.join(flag for flag, on in switches.items() if on)}{channels}"

    def in_words(self) -> str:
        """What sets it apart besides thresholds and layers: `, skips in float, weights rounded adaptively`."""
        told = {
            ", skips in float": self.residual_float, ", best placement": self.best_placement,
            ", weights rounded adaptively": self.adaptive, ", equalized": self.equalize, ", smoothed": self.smooth,
        }  # fmt: skip
        return "".join(words for words, on in told.items() if on)


class RegionCost(Record):
    """`noise`: noise over signal at the worst output when the region alone is INT8 (0.01 is 20 dB); `agreement`: share
    of answers that stay then, where there are answers. `float_gain`: share of the whole INT8 model's noise that goes
    when the region alone is float, measured for the costliest. `macs`: share of all multiply-adds. `saved_ms`: by
    device, what INT8 saves. `consider`: whether `tune` may put it in float; edit it.
    """

    name: str
    weighted: tuple[str, ...]
    nodes: tuple[str, ...]
    noise: float
    sqnr_db: float | None
    agreement: float | None
    macs: float
    float_gain: float | None = None
    saved_ms: dict[str, float] = Field(default_factory=dict)
    consider: bool = True


class Sensitivity(Record):
    """`regions` the costliest first; `images`: how many it was measured on; `calibrator`: of the ranges; `scaled`: by
    what the channels of the network were scaled before."""

    format: Literal["quantbench-sensitivity-1"] = "quantbench-sensitivity-1"
    model: str
    calibrator: str
    images: int
    scaled: tuple[Method, ...] = ()
    regions: tuple[RegionCost, ...]


class Trial(Record):
    """One measured variant; `ms` is predicted; `int8_macs`: share of multiply-adds in INT8; `misses`: what of the goal
    is not met; `command` makes it again."""

    number: int
    why: str
    settings: Settings
    measures: dict[str, Measured]
    int8_macs: float
    misses: tuple[str, ...]
    command: str
    ms: float | None = None
    float_ms: float | None = None


class Trials(Record):
    """All trials of a search; `identity`: what an earlier search must have had in common for its trials to count."""

    format: Literal["quantbench-tune-2"] = "quantbench-tune-2"
    identity: dict[str, str]
    trials: tuple[Trial, ...]
