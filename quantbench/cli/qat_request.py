"""Where a recipe of `quantbench qat-export` ends; apart from `requests`, because its values need torch."""

from quantbench.cli.requests import compile_request, placement_options, recordable
from quantbench.errors import QuantbenchError
from quantbench.predict.versions import PredictedFor
from quantbench.qat.options import TrainOptions
from quantbench.qat.request import CalibrationChoice, QatRequest, TorchChoice, TrainingChoice
from quantbench.qat.to_onnx import ExportOptions
from quantbench.recipe import Recipe

# Training moves the weights, so there is nothing that a calibrator could be judged by before it.
_AUTO, _PLAIN = "auto", "mse"


def qat_request(recipe: Recipe, *, torch_on: str, trust: bool, resume: bool) -> QatRequest:
    """What `quantbench qat-export` does for `recipe`, torch running on `torch_on` ("", cpu, cuda or cuda:N).

    Raises QuantbenchError for text that is not of its form, and for training without data.
    """
    data, export, calibration = recipe.data, recipe.export, recipe.calibration
    return QatRequest(
        model=TorchChoice(
            recipe.model or "", recipe.weights, recipe.architecture, _size(export.size), data.preprocess, trust
        ),
        calibration=CalibrationChoice(
            data.calib_dir, data.dataset, data.max_images, data.max_bad, calibration.batch_size,
            _PLAIN if calibration.calibrator == _AUTO else calibration.calibrator,
        ),
        placement=placement_options(recipe.placement),
        best_placement=recipe.placement.method == "best",
        predicted=PredictedFor(recipe.placement.tensorrt, recipe.placement.gpu, recipe.placement.device),
        training=_training(recipe, resume),
        export=ExportOptions(export.exporter, export.opset, export.dynamic_batch, export.int8_weights),
        compile=compile_request(recipe.compile),
        out=recipe.out,
        device=torch_on,
        recipe=recordable(recipe),
    )  # fmt: skip


def _size(given: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (given, given) if isinstance(given, int) else given


def _training(recipe: Recipe, resume: bool) -> TrainingChoice | None:
    wanted = recipe.training
    if not wanted.epochs:
        return None
    if wanted.data is None:
        raise QuantbenchError("--epochs needs training data: --data data.yaml (YOLO) or a folder with train/ and val/")
    options = TrainOptions(
        epochs=wanted.epochs, batch=wanted.batch, rate=wanted.rate, momentum=wanted.momentum,
        weight_decay=wanted.weight_decay, freeze_after=wanted.freeze_after, distill=wanted.distill,
        patience=wanted.patience, amp=wanted.amp, clip=wanted.clip, learned_scales=wanted.learned_scales,
        seed=recipe.seed, workers=wanted.workers,
    )  # fmt: skip
    return TrainingChoice(wanted.data, options, resume)
