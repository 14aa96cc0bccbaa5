"""Write the small trained networks of scripts/networks.py as ONNX files for the tests.

    python scripts/ship_networks.py tests/data/models --weights DIR

DIR holds what scripts/train_networks.py wrote; what is not there is left out. Weights are stored as FP16 behind a Cast
to FP32, as they were kept.
"""

import argparse
import sys
from pathlib import Path

import onnx
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from scripts.networks import CLASSES
from scripts.qat_ship_models import halved
from scripts.train_networks import build

# Name of the network, name of the file, input shape, names of input and outputs.
SHIPPED = (
    ("detector", "digit-detector.onnx", (3, 320, 320), "images", ("boxes",)),
    ("vit", "vit-animals.onnx", (1, 28, 28), "image", ("logits",)),
    ("convnext", "convnext-animals.onnx", (1, 28, 28), "image", ("logits",)),
    ("detr", "digit-detr.onnx", (3, 320, 320), "images", ("boxes", "logits")),
    ("swin", "swin-digits.onnx", (3, 64, 64), "image", ("logits",)),
    ("conv1d", "conv1d-digits.onnx", (28, 28), "columns", ("logits",)),
)


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    given = parser.parse_args()
    for name, file, shape, source, targets in SHIPPED:
        if not (given.weights / f"{name}.pth").exists():
            continue
        model = build(name)
        state = torch.load(given.weights / f"{name}.pth", weights_only=True)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        model.eval()
        example = torch.rand(1, *shape)
        options = ExportOptions(dynamic_batch=True, input_name=source, output_names=targets)
        exported = halved(export_onnx(model, example, trace(model, example).folds, options), smallest=64)
        del exported.graph.value_info[:]  # shapes of inner tensors, which whoever loads it infers
        if name == "detr":  # as many names as logits: scores are sigmoids, with no class for nothing
            names = {index: str(index) for index in range(CLASSES)}
            onnx.helper.set_model_props(exported, {"names": str(names)})
        onnx.save(exported, given.out / file)
        print(file, (given.out / file).stat().st_size)


if __name__ == "__main__":
    main()
