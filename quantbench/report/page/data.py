"""What the page's script gets, as plain values: points, layers, ranges, the network, leads."""

from dataclasses import asdict, dataclass

from quantbench.json_types import JsonObject


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Latency on one device with its interval; `how`: measured or predicted."""

    ms: float
    low: float
    high: float
    how: str


@dataclass(frozen=True, slots=True)
class Point:
    """A model to choose: a precision of a run, or a trial. `accuracy` in percent or dB, by the page's measure."""

    run: str
    what: str
    accuracy: float
    low: float
    high: float
    latency: dict[str, Milliseconds]
    command: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer of the predicted engine: kernel, dtypes, bytes, ms by device, the worst error behind its nodes.

    `name` is TensorRT's, `label` the ONNX nodes in it without Q and DQ.
    """

    id: int
    name: str
    label: str
    type: str
    nodes: tuple[str, ...]
    takes: str
    gives: str
    bytes: int
    ms: dict[str, float]
    sqnr: float | None
    cost: float | None = None
    why: str = ""
    reformat: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """What one fused region costs in accuracy when it is INT8 (points or dB), and what it saves in ms by device."""

    name: str
    lost: float
    saved: dict[str, float]
    unit: str


@dataclass(frozen=True, slots=True)
class RangeRow:
    """Histogram of |x| of one tensor in `counts` over 0 to `most`, the threshold `amax`, the share that it clips, and
    the share that becomes zero."""

    tensor: str
    amax: float
    most: float
    clipped: float
    zero: float
    counts: tuple[int, ...]
    method: str


@dataclass(frozen=True, slots=True)
class Depth:
    """SQNR behind a layer, in the order of the graph."""

    node: str
    sqnr: float
    op: str


@dataclass(frozen=True, slots=True)
class PageData:
    """All of it. `measure` labels the accuracy axis, `unit` is % or dB; `edges` are pairs of layer ids with a dtype."""

    measure: str
    unit: str
    devices: tuple[str, ...]
    points: tuple[Point, ...]
    layers: tuple[LayerRow, ...] = ()
    edges: tuple[tuple[int, int, str], ...] = ()
    regions: tuple[Region, ...] = ()
    ranges: tuple[RangeRow, ...] = ()
    depth: tuple[Depth, ...] = ()

    def to_json(self) -> JsonObject:
        """Plain data."""
        return asdict(self)
