"""Write the trained float classifier as a small ONNX file for the tests.

    python scripts/qat_ship_models.py tests/data/models --weights DIR

DIR holds what scripts/qat_float_models.py wrote. Its YOLO is not shipped: trained with ultralytics, it is AGPL-3.0.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.qat import yolo
from quantbench.qat.models import TorchModel, load_model
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace

_SMALLEST = 256  # elements; smaller tensors stay as they are


def halved(model: onnx.ModelProto, smallest: int = _SMALLEST) -> onnx.ModelProto:
    """`model` with its float initializers of `smallest` elements or more stored as FP16 behind a Cast to FP32."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < smallest:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_fp16"], [tensor.name],
                                      to=onnx.TensorProto.FLOAT))  # fmt: skip
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def float_onnx(model: TorchModel) -> onnx.ModelProto:
    """The float model with a dynamic batch and its batch norms folded."""
    options = ExportOptions(dynamic_batch=True, input_name=model.input_name, output_names=model.output_names)
    with yolo.exporting(model.module) if model.kind == "yolo" else nullcontext():
        return export_onnx(model.module, model.example, trace(model.module, model.example).folds, options)


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    given = parser.parse_args()
    classifier = load_model("mobilenet_v2", weights=given.weights / "mobilenetv2-digits.pth", size=(64, 64))
    onnx.save(float_onnx(classifier), given.out / "mobilenetv2-digits.onnx")
    print("mobilenetv2-digits.onnx", (given.out / "mobilenetv2-digits.onnx").stat().st_size)


if __name__ == "__main__":
    main()
