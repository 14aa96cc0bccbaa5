"""Plain data that every backend speaks: what to build, what came out, what a machine can do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.engines.shapes import Profile
from quantbench.unkeyed import UNKEYED

if TYPE_CHECKING:
    from quantbench.calibration.collect import Begin
    from quantbench.calibration.ranges import Ranges

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "best")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a user may ask of a build; the defaults are what the backend itself would do.

    Sizes are bytes. What a backend lacks is refused by `quantbench.engines.refuse`, never ignored.
    """

    precisions: frozenset[str] = frozenset()
    """Names of `PRECISIONS`; none leaves the types of the ONNX file (and TF32 on, as TensorRT does)."""
    strongly_typed: bool | None = None
    """None: strongly typed where the version knows nothing else or the model carries Q/DQ."""
    profiles: tuple[Profile, ...] = ()
    """Optimization profiles; none gives a dynamic batch one profile `1:default_batch:default_batch`."""
    default_batch: int = 8
    targets: tuple[str, ...] = ()
    """GPU architectures for an ahead-of-time build ("sm86"); TensorRT-RTX only."""
    pools: Mapping[str, int] = field(default_factory=dict)
    """Memory pool (workspace, dla_managed_sram, …, spelled as MemoryPoolType in lower case) to bytes."""
    timing_cache: Path | None = field(default=None, metadata=UNKEYED)
    tactic_sources: tuple[str, ...] = ()
    """As trtexec: "+NAME" or "-NAME", applied to the default set in order."""
    optimization_level: int | None = None
    refittable: bool = False
    version_compatible: bool = False
    hardware_compatible: str = ""
    """"" or a HardwareCompatibilityLevel in lower case: ampere_plus, same_compute_capability."""
    sparsity: bool = False
    dla_core: int | None = None
    gpu_fallback: bool = False
    layer_precisions: tuple[tuple[str, str], ...] = ()
    """(fnmatch pattern of layer names, precision), the last match wins."""
    precision_constraints: str = "none"
    """none, prefer or obey."""
    plugins: tuple[Path, ...] = ()
    """Libraries of plugins, loaded before the model is parsed."""
    serialize_plugins: bool = False
    """Put those libraries into the engine."""
    exclude_lean_runtime: bool = False
    """Leave the lean runtime out of a version-compatible engine."""
    avg_timing: int | None = None
    """How often a kernel is timed for one figure."""
    aux_streams: int | None = None
    build_route: str = ""
    """A route of TensorRT 11.1's global performance tuner."""
    forbid_tactics: tuple[str, ...] = ()
    """Patterns of kernels (hexadecimal tactics, or names that `replay`'s log gives) that may not be chosen."""
    choose_tactics: tuple[tuple[str, str], ...] = ()
    """(pattern of layer names, kernel), the last match wins."""
    replay: Path | None = None
    """A verbose build log (or a timing cache) whose kernels are taken again."""
    ranges: "Ranges | None" = None
    """Ranges of activations, for INT8 of a model without Q/DQ."""
    calibrator: object | None = None
    """An instance of `quantbench.calibrator.Calibrator`, for TensorRT 10 and older."""
    begin: "Begin | None" = field(default=None, metadata=UNKEYED)
    """Where the calibrator's data are counted, unless TensorRT does it; None: on the CPU. Only `build`, which is no
    stage, has a calibrator."""
    log_file: Path | None = field(default=None, metadata=UNKEYED)
    """Where the verbose log goes; None keeps it in memory."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """An engine as bytes, with all that is needed to say where it came from.

    `log` is the verbose build log, or "" where `log_file` holds it; read either through `log_lines`.
    """

    engine: bytes
    backend: str
    version: str
    seconds: float
    log: str = ""
    log_file: Path | None = None
    targets: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    """Libraries that loading the engine needs."""
    notes: tuple[str, ...] = ()
    """What quantbench decided on its own (a default profile, a cast pass), one sentence each."""

    def log_lines(self) -> Iterator[str]:
        """Lines of the build log without line ends; raises OSError if `log_file` is gone."""
        if self.log_file is None:
            # Not splitlines(): it would also split at the U+001E inside a Metadata field.
            yield from self.log.removesuffix("\n").split("\n")
            return
        with self.log_file.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                yield line.rstrip("\n")


@dataclass(frozen=True, slots=True)
class Availability:
    """One backend on this machine. `can` holds some of: build, run, calibrate, inspect, train."""

    name: str
    available: bool
    version: str = ""
    can: tuple[str, ...] = ()
    detail: str = ""
    how_to_install: str = ""
