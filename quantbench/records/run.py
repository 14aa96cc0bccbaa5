"""RunRecord: what run.json holds, put together from the records of its stages."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from quantbench.errors import QuantbenchError
from quantbench.records.compiled import Compiled, Refused
from quantbench.records.evaluation import Evaluation
from quantbench.records.facts import (
    CalibrationFacts,
    DataFacts,
    ModelFacts,
    PlacementFacts,
    PreprocessFacts,
    Provenance,
    RangeFacts,
    StageRecord,
)
from quantbench.records.prediction import Prediction
from quantbench.records.qat import Agreement, Exported, TrainingFacts
from quantbench.records.record import Record
from quantbench.text_file import read_json

FORMAT: Literal["quantbench-run-2"] = "quantbench-run-2"
RUN = "run.json"


class RunRecord(Record):
    """What every run has. `provenance` is that of the last call; each of `stages` carries its own, which says when and
    where the figures of that stage were made. `recipe` is the recipe after the command line's changes."""

    format: Literal["quantbench-run-2"] = FORMAT
    provenance: Provenance
    recipe: dict[str, JsonValue]
    model: ModelFacts
    data: DataFacts
    preprocess: PreprocessFacts
    prediction: Prediction
    compiled: Compiled | Refused | None
    stages: dict[str, StageRecord] = Field(default_factory=dict)

    def measured_by(self, stage: str) -> Provenance:
        """Provenance of `stage`; that of the call where the stage is not recorded apart."""
        return self.stages[stage].provenance if stage in self.stages else self.provenance

    def stages_or_call(self) -> dict[str, Provenance]:
        """Provenance by stage, or of the call alone."""
        return {name: stage.provenance for name, stage in self.stages.items()} or {"all": self.provenance}


class PtqRun(RunRecord):
    """A `quantbench ptq` run."""

    kind: Literal["ptq"] = "ptq"
    calibration: CalibrationFacts
    placement: PlacementFacts
    evaluated_on: DataFacts
    evaluation: Evaluation


class QatRun(RunRecord):
    """A `quantbench qat-export` run. Without `placement` the checkpoint came quantized, by `quantized_by`."""

    kind: Literal["qat-export"] = "qat-export"
    device: str
    quantized_by: str = ""
    calibration: CalibrationFacts | None
    placement: PlacementFacts | None
    ranges: tuple[RangeFacts, ...]
    training: TrainingFacts | None
    exported: Exported
    against_torch: Agreement
    against_float: Agreement


AnyRun = Annotated[PtqRun | QatRun, Field(discriminator="kind")]


def load_run(path: Path) -> PtqRun | QatRun:
    """The record of the run folder `path` (or of a run.json). Raises QuantbenchError where there is none that this
    version reads."""
    file = path / RUN if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise QuantbenchError(
            f"{path} holds no {RUN}: it is no run folder, or its run has not ended; name one that 'quantbench ptq' or "
            f"'quantbench qat-export' left"
        )
    return run_of(read_json(file), str(file))


def run_of(data: JsonValue, source: str) -> PtqRun | QatRun:
    """The record that `data`, parsed from `source`, holds. Raises QuantbenchError as `load_run`."""
    kind = data.get("kind") if isinstance(data, dict) and data.get("format") == FORMAT else None
    if kind == "ptq":
        return PtqRun.of(data, source)
    if kind == "qat-export":
        return QatRun.of(data, source)
    raise QuantbenchError(f"{source} is no record of this version of quantbench ({FORMAT}); run the command again")


def run_schema() -> dict[str, JsonValue]:
    """JSON schema (2020-12) of run.json."""
    schema: dict[str, JsonValue] = TypeAdapter(AnyRun).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "quantbench run.json", **schema}
