"""What `quantbench qat-export` is asked for, as values; a recipe and the command line come to this."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from quantbench.compilation.request import CompileRequest
from quantbench.json_types import JsonObject
from quantbench.predict.versions import PredictedFor
from quantbench.qat.options import TrainOptions
from quantbench.qat.to_onnx import ExportOptions
from quantbench.qdq.options import PlacementOptions
from quantbench.recipe import Architecture


@dataclass(frozen=True, slots=True)
class TorchChoice:
    """A checkpoint, or a torchvision classifier with its `weights`; `size`: (height, width) of the input; `trust`:
    unpickle in full."""

    name: str
    weights: Path | None = None
    architecture: Architecture | None = None
    size: tuple[int, int] | None = None
    preprocess: str | JsonObject | None = None
    trust: bool = False

    @property
    def file(self) -> Path:
        """What holds the weights."""
        return Path(self.weights or self.name)


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """Calibration images and method; without folder and data set the training images, or photos of packages."""

    folder: Path | None = None
    dataset: str | None = None
    max_images: int = 512
    max_bad: int = 0
    batch_size: int = 8
    method: str = "minmax"


@dataclass(frozen=True, slots=True)
class TrainingChoice:
    """Fine-tuning on `data`: YOLO data.yaml, or a folder with train/ and val/ of class folders; `resume`: after the
    last whole epoch that the run folder holds."""

    data: Path
    options: TrainOptions
    resume: bool = False


@dataclass(frozen=True, slots=True)
class QatRequest:
    """A whole run. `training`: None exports without; `device`: "", "cpu" or "cuda"; `recipe` is what run.json keeps of
    how it was asked for. Names of inputs and outputs in `export` are the model's to say."""

    model: TorchChoice
    calibration: CalibrationChoice = field(default_factory=CalibrationChoice)
    placement: PlacementOptions = field(default_factory=PlacementOptions)
    best_placement: bool = False
    predicted: PredictedFor = field(default_factory=PredictedFor)
    training: TrainingChoice | None = None
    export: ExportOptions = field(default_factory=ExportOptions)
    compile: CompileRequest = field(default_factory=CompileRequest)
    out: Path | None = None
    device: str = ""
    recipe: dict[str, JsonValue] = field(default_factory=dict)
