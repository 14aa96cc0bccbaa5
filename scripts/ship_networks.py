"""Write the small trained networks of scripts/networks.py as ONNX files for the tests.

    python scripts/ship_networks.py tests/data/models --weights DIR

DIR holds what scripts/train_networks.py wrote. Weights are stored as FP16 behind a Cast to FP32, as they were kept.
"""

import argparse
import sys
from pathlib import Path

import onnx
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from scripts.qat_ship_models import halved
from scripts.train_networks import build

# Name of the network, name of the file, input shape, names of input and output.
SHIPPED = (
    ("detector", "digit-detector.onnx", (3, 320, 320), "images", "boxes"),
    ("vit", "vit-animals.onnx", (1, 28, 28), "image", "logits"),
    ("convnext", "convnext-animals.onnx", (1, 28, 28), "image", "logits"),
)


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    given = parser.parse_args()
    for name, file, shape, source, target in SHIPPED:
        model = build(name)
        state = torch.load(given.weights / f"{name}.pth", weights_only=True)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        model.eval()
        example = torch.rand(1, *shape)
        options = ExportOptions(dynamic_batch=True, input_name=source, output_names=(target,))
        onnx.save(halved(export_onnx(model, example, trace(model, example).folds, options)), given.out / file)
        print(file, (given.out / file).stat().st_size)


if __name__ == "__main__":
    main()
