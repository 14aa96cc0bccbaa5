"""What a compiler made of the INT8 model and of the float one beside it."""

from quantbench.records.record import Record


class TensorBytes(Record):
    """A tensor and its bytes."""

    tensor: str
    bytes: int


class Kernel(Record):
    """A layer that only converts, and the bytes that it moves."""

    name: str
    bytes: int


class BareEngine(Record):
    """An engine whose layers nothing tells."""

    engine_bytes: int


class LayerTotals(Record):
    """Figures of an engine's layers; bytes are of one inference. `not_int8`: weighted ONNX nodes that compute in float;
    `quantized_but_float`: those of them with Q/DQ; `float_between`: float tensors between INT8 layers."""

    layers: int
    traffic_bytes: int
    weighted: int
    weighted_int8: int
    not_int8: tuple[str, ...]
    quantized_but_float: tuple[str, ...]
    float_between: tuple[TensorBytes, ...]
    float_between_bytes: int
    conversions: tuple[Kernel, ...]
    conversion_bytes: int


class Engine(LayerTotals):
    """An engine and the totals of its layers."""

    engine_bytes: int


class EngineLatency(Record):
    """Milliseconds of a call on this machine's GPU (H2D + compute + D2H, as trtexec)."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    calls: int


class EngineLatencies(Record):
    """Both engines on this machine's GPU; `plain` is None where no float engine was built."""

    int8: EngineLatency
    plain: EngineLatency | None = None


class Compiled(Record):
    """Both engines. `target`: GPU families, "" for this machine; `precision`: of what is not INT8; `quantization`:
    explicit or implicit; `shape`: of the input, with the batch; `seconds`: of the INT8 build."""

    backend: str
    version: str
    target: str
    precision: str
    quantization: str
    shape: tuple[int, ...]
    seconds: float
    notes: tuple[str, ...]
    int8: Engine | BareEngine
    plain: Engine | BareEngine | None = None
    latency: EngineLatencies | None = None


class Refused(Record):
    """The compiler did not take the model; why."""

    failed: str
