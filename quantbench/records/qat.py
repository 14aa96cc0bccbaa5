"""What only a qat-export run has: training, the exported graph, agreement with torch."""

from pydantic import Field

from quantbench.records.evaluation import Measured, NotMeasurable
from quantbench.records.record import Record


class TrainingFacts(Record):
    """Epochs (counted from 0), figures of each, and top-1 by name (float, calibrated, fine-tuned).

    `history`: accuracy of each epoch, or for YOLO its metrics by name.
    """

    epochs: int
    best_epoch: int
    started_at: int = 0
    history: tuple[float | dict[str, float], ...]
    top1: dict[str, Measured] = Field(default_factory=dict)


class TensorSignature(Record):
    """An input or output of the exported graph; dimensions are numbers or names."""

    name: str
    shape: tuple[int | str, ...]
    type: str


class Exported(Record):
    """The Q/DQ model's file and graph; `concats`: scales at each Concat, one each is what lets TensorRT drop it."""

    file: str
    bytes: int
    opset: int
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    weighted: tuple[str, ...]
    quantized: tuple[str, ...]
    concats: dict[str, tuple[float, ...]]


class BoxesAlike(Record):
    """Confident boxes of the reference and how many of them the other side finds."""

    reference: int
    found: int


class Agreement(Record):
    """The exported model against a reference on the same images."""

    images: int
    max_difference: float
    largest_output: float
    sqnr_db: Measured | NotMeasurable
    agreement: Measured | None = None
    boxes: BoxesAlike | None = None


class ExportFacts(Record):
    """What the export stage made and how it compares with torch, quantized and float."""

    exported: Exported
    against_torch: Agreement
    against_float: Agreement
