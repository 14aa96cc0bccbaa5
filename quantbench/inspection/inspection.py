"""Inspection: all that is known of one engine or build, joined from whatever files tell of it."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from quantbench.inspection.fate import Fate
from quantbench.inspection.flow import Flow
from quantbench.inspection.logs.build_log import Build, BuildLog
from quantbench.inspection.profile import Row
from quantbench.inspection.qdq_onnx import QdqModel
from quantbench.inspection.story import Story
from quantbench.inspection.timing import Statistics
from quantbench.json_types import JsonObject
from quantbench.layers.categories import precision
from quantbench.layers.layer import Layer
from quantbench.records.run import PtqRun, QatRun


@dataclass(frozen=True, slots=True)
class Source:
    """A file that went into an inspection; `text` says in words what it is."""

    path: Path
    kind: str
    text: str


@dataclass(frozen=True)
class Inspection:
    """One engine or build. Empty parts mean that no file tells of them."""

    title: str
    sources: tuple[Source, ...]
    version: str = ""
    layers: tuple[Layer, ...] = ()
    names_only: bool = False
    bindings: tuple[str, ...] = ()
    iterations: int = 0
    unjoined: tuple[Row, ...] = ()
    timing: dict[str, Statistics] = field(default_factory=dict)
    metadata: dict[str, JsonObject] = field(default_factory=dict)
    run: PtqRun | QatRun | None = None
    log: BuildLog | None = None
    build: Build | None = None
    story: Story | None = None
    fates: tuple[Fate, ...] = ()
    model: QdqModel | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def flow(self) -> Flow:
        """Edges between the layers."""
        return Flow.of(self.layers)

    @cached_property
    def precisions(self) -> Counter[str]:
        """Number of layers by the dtype of their first input."""
        return Counter(precision(layer) for layer in self.layers)

    @property
    def compiler(self) -> str:
        """Name and version of the compiler, "" where no file tells."""
        name, _, number = self.version.rpartition(" ")
        rtx = "RTX" in (name, number)
        return f"TensorRT{'-RTX' if rtx else ''} {number if number != 'RTX' else ''}".strip() if self.version else ""

    @property
    def total_ms(self) -> float | None:
        """Sum of the layers' mean times, None without a profile."""
        times = [layer.time_ms for layer in self.layers if layer.time_ms is not None]
        return sum(times) if times else None

    @property
    def quantized(self) -> bool:
        """Whether any layer or any Q/DQ shows that INT8 was wanted."""
        return bool(self.fates) or any(t.dtype in ("INT8", "FP8") for layer in self.layers for t in layer.inputs)
