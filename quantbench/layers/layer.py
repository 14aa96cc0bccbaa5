"""Layer: one layer of a compiled (or predicted) engine, the same value whatever it was read from."""

from dataclasses import dataclass, field

from quantbench.json_types import JsonObject

BYTES_PER_ELEMENT: dict[str, float] = {
    "FP64": 8, "INT64": 8, "FP32": 4, "INT32": 4, "FP16": 2, "BF16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1,
    "FP8": 1, "INT4": 0.5, "FP4": 0.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerTensor:
    """A tensor at the edge of a layer.

    `dtype` is one of the keys of `BYTES_PER_ELEMENT` or "?"; `format` is a short name (kLINEAR, CHW4, CHW32, HWC,
    HWC8, NHWC …) or ""; `dims` may hold -1. `vector` is the channel vector width (1 when none).
    """

    name: str
    dtype: str = "?"
    format: str = ""
    dims: tuple[int, ...] = ()
    vector: int = 1

    @property
    def nbytes(self) -> int | None:
        """Bytes of the tensor without padding, or None where a dimension or the dtype is unknown."""
        size = BYTES_PER_ELEMENT.get(self.dtype)
        if size is None or any(d < 0 for d in self.dims):
            return None
        count = 1
        for d in self.dims:
            count *= d
        return int(count * size)

    def to_json(self) -> JsonObject:
        """Plain data for `layers.json` and `inspect.json`."""
        return {"name": self.name, "dtype": self.dtype, "format": self.format, "dims": list(self.dims),
                "bytes": self.nbytes}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One engine layer. `nodes` are the ONNX nodes fused into it; `time_ms` is the mean of a profile or None."""

    name: str
    type: str
    inputs: tuple[LayerTensor, ...] = ()
    outputs: tuple[LayerTensor, ...] = ()
    constants: tuple[LayerTensor, ...] = ()
    nodes: tuple[str, ...] = ()
    tactic: str = ""
    time_ms: float | None = None
    origin: str = ""
    attributes: JsonObject = field(default_factory=dict)

    def number(self, *names: str) -> int:
        """The first of the attributes `names` that is a whole number other than 0; dialects of layer JSON differ in
        what they call it. 0 where there is none."""
        return next(filter(None, (_whole(self.attributes.get(name)) for name in names)), 0)

    @property
    def traffic_bytes(self) -> int:
        """Bytes of all inputs, outputs and constants; unknown sizes count as 0."""
        return sum(t.nbytes or 0 for t in (*self.inputs, *self.outputs, *self.constants))

    def to_json(self) -> JsonObject:
        """Plain data for `layers.json` and `inspect.json`."""
        data: JsonObject = {
            "name": self.name, "type": self.type, "nodes": list(self.nodes),
            "inputs": [t.to_json() for t in self.inputs], "outputs": [t.to_json() for t in self.outputs],
            "constants": [t.to_json() for t in self.constants], "tactic": self.tactic,
        }  # fmt: skip
        if self.time_ms is not None:
            data["time_ms"] = self.time_ms
        if self.origin:
            data["origin"] = self.origin
        if self.attributes:
            data["attributes"] = self.attributes
        return data


def _whole(value: object) -> int:
    if not isinstance(value, int | float | str):
        return 0
    try:
        return int(value)
    except (ValueError, OverflowError):  # words, infinity, thousands of digits
        return 0
