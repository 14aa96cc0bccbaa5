"""What `quantbench ptq` is asked for, as values; a recipe and the command line come to this."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from quantbench.compilation.request import CompileRequest
from quantbench.folding.options import FoldOptions
from quantbench.json_types import JsonObject
from quantbench.predict.versions import PredictedFor
from quantbench.qdq.options import PlacementOptions, WeightOptions
from quantbench.recipe import Architecture


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """`name`: an ONNX file, `demo:NAME`, or a torch checkpoint with its `architecture`; `trust`: unpickle in full."""

    name: str
    architecture: Architecture | None = None
    trust: bool = False


@dataclass(frozen=True, slots=True)
class InputChoice:
    """Where one input's data are (a folder of images or arrays), and how images are prepared for it."""

    name: str
    path: Path
    preprocess: str | JsonObject | None = None


@dataclass(frozen=True, slots=True)
class DataChoice:
    """Calibration data: a folder of images, arrays (.npy, .npz, a folder of them), `file.py:name` of what gives items
    one by one, a named data set, or one of the first two for each of the `inputs`."""

    calib_dir: Path | None = None
    inputs: tuple[InputChoice, ...] = ()
    dataset: str | None = None
    preprocess: str | JsonObject | None = None
    max_images: int = 512
    max_bad: int = 0


@dataclass(frozen=True, slots=True)
class EvaluationChoice:
    """Images to compare on, the calibration images themselves where none are named; `labels`: one of
    `quantbench.data.sources.LABELS`; `classes`: a file with the names of the model's classes."""

    dir: Path | None = None
    dataset: str | None = None
    labels: str = "none"
    classes: Path | None = None
    max_images: int = 1024


@dataclass(frozen=True, slots=True)
class Spread:
    """Who counts the calibration data: so many `processes` of this machine (0: this one), or the workers of the Ray
    cluster at the address `ray`; in how many `pieces` (0: 32). Changes no number."""

    processes: int = 0
    ray: str = ""
    pieces: int = 0

    @property
    def asked(self) -> bool:
        """Whether others count."""
        return self.processes > 0 or bool(self.ray)


@dataclass(frozen=True, slots=True)
class PtqRequest:
    """A whole run. `device`: cpu, cuda or cuda:N, which calibration runs on. `recipe` is what run.json keeps of how it
    was asked for."""

    model: ModelChoice
    data: DataChoice = field(default_factory=DataChoice)
    evaluation: EvaluationChoice = field(default_factory=EvaluationChoice)
    calibrator: str = "auto"
    batch_size: int = 8
    bias_correction: bool = True
    weights: WeightOptions = field(default_factory=WeightOptions)
    fold: FoldOptions = field(default_factory=FoldOptions)
    placement: PlacementOptions = field(default_factory=PlacementOptions)
    best_placement: bool = False
    predicted: PredictedFor = field(default_factory=PredictedFor)
    compile: CompileRequest = field(default_factory=CompileRequest)
    latency: bool = True
    threads: int = 0
    device: str = "cpu"
    spread: Spread = field(default_factory=Spread)
    out: Path | None = None
    recipe: dict[str, JsonValue] = field(default_factory=dict)
