"""Evidence for the default calibrator: every method, with and without bias correction, on six trained models.

Run: python scripts/compare_calibrators.py > docs/calibrators-compared.md (10 minutes on two idle cores), or with
the names of some of the models for those alone.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import runner
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import for_onnxruntime
from quantbench.data.sources import at_most, dataset_source, feeds, labelled
from quantbench.demo import efficientnet_lite0
from quantbench.demo.packages import package_file
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.preprocess import PRESETS, Preprocess
from quantbench.images.source import Source
from quantbench.ort import create_session
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.records.evaluation import Measured

METHODS = ("minmax", "entropy", "percentile:99.9", "percentile:99.99", "percentile:99.999", "mse")
MODELS = Path(__file__).parents[1] / "tests" / "data" / "models"
BATCH = 8


@dataclass(frozen=True)
class Case:
    """A trained model with calibration images and other images to measure on."""

    name: str
    path: Path
    calibration: Source
    evaluation: Source


def cases() -> Iterator[Case]:
    """The models of issue 2: EfficientNet-Lite0, the PP-OCR detector, and two classifiers trained on a labelled set."""
    lite = PRESETS["efficientnet-lite"]
    yield Case(
        "EfficientNet-Lite0",
        efficientnet_lite0.onnx_path(),
        dataset_source("photos?split=calibration&crops=64", lite),
        dataset_source("photos?split=heldout&crops=300&seed=1", lite),
    )
    ocr = Preprocess(exact=(320, 320), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    yield Case(
        "PP-OCRv6 detector",
        package_file("rapidocr", "models/PP-OCRv6_det_small.onnx", "the comparison", "requirements-assets.txt"),
        dataset_source("photos?split=calibration&crops=32", ocr),
        dataset_source("photos?split=heldout&crops=40&seed=1", ocr),
    )
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    for name in ("animals_resnet18", "animals_mobilenetv2", "vit-animals", "convnext-animals"):
        yield Case(
            name,
            MODELS / f"{name}.onnx",
            at_most(dataset_source("animal-mnist?split=train", grey), 256),
            dataset_source("animal-mnist?split=test", grey),
        )


def measure(case: Case) -> Iterator[tuple[str, bool, dict[str, Measured]]]:
    """(method, bias corrected, figures) for each variant of one model."""
    model = load_model(case.path)
    view = view_of(model)
    plan = place(view)
    name, guard = view.inputs[0], PlacementOptions().residual_db

    def images() -> Iterator[dict[str, NDArray[Any]]]:
        return feeds(case.calibration, name, BATCH)

    histograms = collect(model, images(), plan.tensors)
    reference = runner(create_session(model), 0)
    for method in METHODS:
        ranges = find_ranges(histograms, method, threshold_method(method))
        for corrected in (False, True):
            made = carry_out(model, plan, ranges, Correction(images) if corrected else None, residual_db=guard)
            run = runner(create_session(for_onnxruntime(made.model)), 0)
            found = compare_outputs(reference, run, labelled(case.evaluation, name, BATCH))
            yield method, corrected, measures_of(found)


def row(method: str, corrected: bool, figures: dict[str, Measured]) -> Sequence[str]:
    """One line of a table."""
    agreement, change = figures.get("agreement"), figures.get("top1_change")
    return (
        method,
        "yes" if corrected else "no",
        f"{figures['sqnr_db'].value:.2f}",
        f"{100 * agreement.value:.1f}" if agreement else "-",
        f"{100 * change.value:+.2f}" if change else "-",
    )


def main() -> None:
    """Print the tables and, last, the mean over the models of each variant's loss of SQNR against the best."""
    losses: dict[tuple[str, bool], list[float]] = {}
    print("# Calibrators compared\n\nMade by `python scripts/compare_calibrators.py`. SQNR of the outputs in dB.")
    wanted = set(sys.argv[1:])
    for case in cases():
        if wanted and case.name not in wanted:
            continue
        print(
            f"\n## {case.name}\n\n{len(case.calibration)} calibration images, {len(case.evaluation)} others measured.\n"
        )
        print("| method | bias corrected | SQNR dB | same argmax % | top-1 change, points |\n|---|---|---|---|---|")
        results = list(measure(case))
        best = max(figures["sqnr_db"].value for _, _, figures in results)
        for method, corrected, figures in results:
            print("| " + " | ".join(row(method, corrected, figures)) + " |", flush=True)
            losses.setdefault((method, corrected), []).append(best - figures["sqnr_db"].value)
    print("\n## Mean distance to the best of each model\n\n| method | bias corrected | dB |\n|---|---|---|")
    for (method, corrected), values in sorted(losses.items(), key=lambda item: float(np.mean(item[1]))):
        print(f"| {method} | {'yes' if corrected else 'no'} | {np.mean(values):.2f} |")


if __name__ == "__main__":
    main()
