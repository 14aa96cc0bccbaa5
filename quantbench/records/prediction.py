"""What the predictor says of the Q/DQ model."""

from pydantic import Field

from quantbench.records.record import Record


class Mend(Record):
    """A weighted layer that computes or writes float: why, and what would mend it."""

    node: str
    reason: str
    mend: str


class Guess(Record):
    """A statement that no log or engine at hand shows, and what it concerns."""

    why: str
    what: str


class LeftOver(Record):
    """A Q or DQ that became a kernel of its own: its name, operator and ONNX node."""

    name: str
    op: str
    node: str


class PrecisionLatency(Record):
    """Time of the network in one precision, in ms: GPU compute with its 90 % interval, sum of a per-layer profile, sum
    of kernels alone, and the kernels' by part (convolutions, reformats …)."""

    precision: str
    ms: float
    low_ms: float
    high_ms: float
    profile_ms: float
    kernels_ms: float
    shares_ms: dict[str, float]


class LatencyMend(Record):
    """What costs time in INT8 and can be mended."""

    what: str
    ms: float


class DeviceLatency(Record):
    """Times on a learnt device, and the verdict: pays, batch, mend or stay."""

    device: str
    batch: int
    verdict: str
    sentence: str
    gain: float
    caveats: tuple[str, ...]
    times: tuple[PrecisionLatency, ...]
    mends: tuple[LatencyMend, ...]


class Prediction(Record):
    """Summary of the engine that TensorRT (`version`, in words) is predicted to build; `float_bytes`: moved by float
    tensors between INT8 layers; `fates`: how many Q and DQ came to what."""

    version: str = Field(description="for which TensorRT")
    headline: str = Field(default="", description="how far that version is backed by evidence")
    confidence: dict[str, int] = Field(default={}, description="layers seen, seen in another version, guessed")
    layers: int
    int8_layers: int
    weighted: int
    fates: dict[str, int]
    left_over: tuple[LeftOver, ...]
    reformats: int
    float_bytes: int
    float_weighted: tuple[Mend, ...]
    float_outputs: tuple[Mend, ...]
    guesses: tuple[Guess, ...]
    latency: DeviceLatency | None = Field(default=None, description="times on the device that was named")
