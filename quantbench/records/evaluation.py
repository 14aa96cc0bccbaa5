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
class NotMeasurable:
    """What could not be measured, and why, in words that end a sentence: "integers have no noise"."""

    reason: str


@dataclass(frozen=True, slots=True)
class OutputError:
    """SQNR of one output, or of a `part` of it that has a unit of its own (box coordinates, class scores)."""

    output: str
    part: str
    sqnr: Measured | NotMeasurable

    @property
    def name(self) -> str:
        """Output and part in words."""
        return f"{self.output}, {self.part}" if self.part else self.output


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one call, over `runs` calls at one batch size and thread count; `low_ms` to `high_ms`: the
    median's interval, 95 % (runs of older versions say none)."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    batch: int
    threads: int
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LayerError:
    """`sqnr_db` = 10 log10(|x|² / |x - x_int8|²), `cosine` of the angle between both, over all images and elements.

    `tensor` is where it was measured, `behind` the activation between the node and it, "" where there is none.
    `sqnr_db` is None where both are equal to the last bit.
    """

    node: str
    op: str
    tensor: str
    sqnr_db: float | None
    cosine: float
    behind: str = ""


class Outputs(Record):
    """Figures of the model's outputs; what a model or its data do not allow is None.

    `sqnr_db`: the lowest of all outputs and parts. `agreement`: same argmax; `boxes_kept`: boxes of the float model
    that INT8 finds too, `boxes_shared`: the reverse; `pixels_alike`: of the same class; `equal`: share of equal
    integers; `point_error`: mean distance of key points in pixels. `pixels_…`: share of pixels of the right class.
    """

    sqnr_db: Measured | None = None
    agreement: Measured | None = None
    top1_float: Measured | None = None
    top1_int8: Measured | None = None
    top1_change: Measured | None = None
    top5_float: Measured | None = None
    top5_int8: Measured | None = None
    top5_change: Measured | None = None
    map_float: Measured | None = None
    map_int8: Measured | None = None
    map_change: Measured | None = None
    map50_float: Measured | None = None
    map50_int8: Measured | None = None
    map50_change: Measured | None = None
    boxes_kept: Measured | None = None
    boxes_shared: Measured | None = None
    miou_float: Measured | None = None
    miou_int8: Measured | None = None
    miou_change: Measured | None = None
    pixels_float: Measured | None = None
    pixels_int8: Measured | None = None
    pixels_change: Measured | None = None
    pixels_alike: Measured | None = None
    equal: Measured | None = None
    point_error: Measured | None = None


class BoxFacts(Record):
    """The output that is taken as boxes, in which `format` (see evaluate/task.py) and `why`, and by which thresholds
    boxes count and are the same."""

    output: str
    format: str
    why: str
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
    """FP32 against INT8 in onnxruntime; `layers` the worst first. `task`: what the outputs mean, told from `task_why`;
    `parts`: SQNR of each output; `differing`: images, counted from 0, that a classifier answers differently."""

    outputs: Outputs
    task: str
    task_why: str
    parts: tuple[OutputError, ...]
    differing: tuple[int, ...] = ()
    layers: tuple[LayerError, ...]
    sizes: Sizes
    boxes: BoxFacts | None = None
    latency: LatencyPair | None = None
