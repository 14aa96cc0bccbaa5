"""What was measured of INT8 against the float model."""

from dataclasses import dataclass

from quantbench.records.record import Record


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its 95 % interval and the number of images (or what `unit` says) behind it."""

    value: float
    low: float
    high: float
    count: int
    unit: str = "images"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one call, over `runs` calls at one batch size and thread count."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    batch: int
    threads: int


@dataclass(frozen=True, slots=True)
class LayerError:
    """`sqnr_db` = 10 log10(|x|² / |x - x_int8|²), `cosine` of the angle between both, over all images and elements."""

    node: str
    op: str
    tensor: str
    sqnr_db: float
    cosine: float


class Outputs(Record):
    """Figures of the model's outputs; what a model or its data do not allow is None.

    `agreement`: same argmax; `boxes_kept`: boxes of the float model that INT8 finds too, `boxes_shared`: the reverse.
    """

    sqnr_db: Measured
    agreement: Measured | None = None
    top1_float: Measured | None = None
    top1_int8: Measured | None = None
    top1_change: Measured | None = None
    top5_float: Measured | None = None
    top5_int8: Measured | None = None
    map_float: Measured | None = None
    map_int8: Measured | None = None
    map_change: Measured | None = None
    map50_float: Measured | None = None
    map50_int8: Measured | None = None
    map50_change: Measured | None = None
    boxes_kept: Measured | None = None
    boxes_shared: Measured | None = None


class BoxFacts(Record):
    """The output that is taken as boxes, and by which thresholds boxes count and are the same."""

    output: str
    classes: int
    shape: tuple[int, ...]
    confidence: float
    nms_iou: float
    same_iou: float


class Sizes(Record):
    """Bytes of the float model and of both files of the INT8 one."""

    plain: int
    qdq: int
    onnxruntime: int


class LatencyPair(Record):
    """Both models in onnxruntime on the CPU, taking turns call by call."""

    plain: Latency
    int8: Latency


class Evaluation(Record):
    """FP32 against INT8 in onnxruntime; `layers` the worst first."""

    outputs: Outputs
    layers: tuple[LayerError, ...]
    sizes: Sizes
    boxes: BoxFacts | None = None
    latency: LatencyPair | None = None
