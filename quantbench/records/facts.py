"""What went in: model, data, preprocessing, placement, calibration, and where and when a stage ran."""

from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, JsonValue

from quantbench.records.folded import Folded
from quantbench.records.judged import Judged
from quantbench.records.record import Record
from quantbench.records.rounding import RoundingFacts


def _plain(name: str) -> str:
    """A run folder may be a stranger's: a name in its records leads out of no folder."""
    if PurePath(name).name != name or name in ("", ".", ".."):
        raise ValueError("is no plain file name")
    return name


FileName = Annotated[str, AfterValidator(_plain)]


class Machine(Record):
    """The computer; `cores` are those that the process may use."""

    system: str
    processor: str
    cores: int


class Provenance(Record):
    """Where a figure comes from: command line, time (UTC, ISO 8601) of its end, seconds, versions, machine."""

    command: str
    time: str
    seconds: float = 0.0
    versions: dict[str, str]
    machine: Machine


class ModelFacts(Record):
    """`sha256` of the file (with its external data); `kind` and `parameters` are known of torch models."""

    name: str
    path: str
    sha256: str
    kind: str = ""
    parameters: int | None = None


# What `DataFacts.what` of evaluation data begins with where no others were named.
THEMSELVES = "the calibration data themselves"


class DataFacts(Record):
    """Images: in words what they are, how many are used, and the hash over names and contents of these.

    `labels_sha256` where they are labelled; `skipped` names images that could not be used.
    """

    what: str
    images: int
    sha256: str
    labels_sha256: str = ""
    skipped: tuple[str, ...] = ()


class PreprocessFacts(Record):
    """`settings` as a recipe declares them, the same in `words`, and how they came about."""

    settings: dict[str, JsonValue]
    words: str
    origin: str


class PlacementFacts(Record):
    """`weighted`: names of all weighted nodes; `quantized`: those of them with Q/DQ; `kept_float`: node to reason;
    `tensors`: activations with Q/DQ; `groups`: scales that they share; `rules`: sites by rule."""

    weighted: tuple[str, ...]
    quantized: tuple[str, ...]
    kept_float: dict[str, str]
    tensors: int
    groups: int
    rules: dict[str, int]


class RangeFacts(Record):
    """Range of one tensor, in its unit, and what it does to the values of the calibration data: the share beyond it,
    the share that becomes zero, and that among the values which are not zero. None: not known of this run."""

    tensor: str
    amax: float
    observed_max: float
    share_clipped: float
    share_zero: float | None = None
    share_lost: float | None = None


class CalibrationFacts(Record):
    """`method` as recorded; `source`: "images", or the cache whose ranges were taken; `device`: cpu or cuda, whose
    kernels tensors were counted from, "" where none were or it was not recorded; `warnings` about ranges;
    `judged`: what calibrator `auto` chose among; `ranges` of the tensors with Q/DQ, as the model has them (a scale may
    be shared), where values were counted; `weight_scales`: max or mse; `rounding`: what adaptive rounding did, None
    where weights are rounded to the nearest; `folded`: what equalization and SmoothQuant did before."""

    method: str
    source: str = "images"
    device: str = ""
    bias_correction: bool = False
    warnings: tuple[str, ...] = ()
    judged: Judged | None = None
    ranges: tuple[RangeFacts, ...] = ()
    weight_scales: str = "max"
    rounding: RoundingFacts | None = None
    folded: Folded | None = None

    @property
    def described(self) -> str:
        """The method in words: `mse, chosen by auto`."""
        return f"{self.judged.taken}, chosen by {self.method}" if self.judged is not None else self.method


class Output(Record):
    """A file of the run folder: its name, SHA-256 and size in bytes when its stage ended."""

    path: FileName
    sha256: str
    bytes: int


class StageRecord(Record):
    """A finished stage: the digest of its inputs, these in plain data, the stages whose outputs it read, what it wrote,
    and its own provenance."""

    name: str
    key: str
    inputs: dict[str, JsonValue]
    after: tuple[str, ...] = ()
    outputs: tuple[Output, ...]
    provenance: Provenance
