"""Q/DQ by onnxruntime, by ModelOpt and by quantbench on four networks: as predicted for TensorRT, as compiled by RTX.

Run by hand: `python scripts/compare_qdq.py --out docs/placement-compared.md`. It wants torch, torchvision, ultralytics
and nvidia-modelopt 0.47 (base install; `--modelopt DIR` for one unpacked elsewhere); what is missing is left out of the
table and named. Weights are random where no trained ones are to be had, and ranges come from random images: placement
depends on neither.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import efficientnet_lite0, resnet18
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.predict.best import best_placement
from quantbench.predict.cost import moved_bytes
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict_model
from quantbench.ptq.compile_check import real_layers
from quantbench.ptq.traffic import compile_summary
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan

Images = NDArray[np.float32]
_MODELOPT = """
import sys, numpy, modelopt.onnx.quantization as moq
moq.quantize(sys.argv[1], quantize_mode="int8", calibration_data=numpy.load(sys.argv[2]), calibration_method="max",
             calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=sys.argv[3])
"""


def build_resnet18(path: Path) -> None:
    """quantbench's ResNet-18 with random weights."""
    onnx.save(resnet18.build(batch=1), path)


def build_efficientnet_lite0(path: Path) -> None:
    """The demo model, with its trained weights."""
    model = onnx.load(str(efficientnet_lite0.onnx_path()))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)


def build_mobilenet_v2(path: Path) -> None:
    """torchvision's MobileNetV2 with random weights."""
    import torch

    from quantbench.qat.vision import import_torchvision

    net = import_torchvision().models.mobilenet_v2(weights=None).eval()
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), str(path), opset_version=17, dynamo=False)


def build_yolov8n(path: Path) -> None:
    """ultralytics' YOLOv8n with random weights, batch norms folded."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())
    import torch
    from ultralytics import YOLO

    net = YOLO("yolov8n.yaml").model.eval().fuse()
    for module in net.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
        if type(module).__name__ == "C2f":
            module.forward = module.forward_split
    torch.onnx.export(net, (torch.zeros(1, 3, 640, 640),), str(path), opset_version=17, dynamo=False)


NETWORKS = {
    "ResNet-18": build_resnet18, "EfficientNet-Lite0": build_efficientnet_lite0, "MobileNetV2": build_mobilenet_v2,
    "YOLOv8n": build_yolov8n,
}  # fmt: skip


class _Reader:
    def __init__(self, name: str, images: Images) -> None:
        self.rest = [{name: image[None]} for image in images]

    def get_next(self) -> dict[str, Images] | None:
        """Next image, None at the end."""
        return self.rest.pop() if self.rest else None


def by_onnxruntime(source: Path, target: Path, images: Images, modelopt: str) -> None:
    """With the options that onnxruntime's own TensorRT example sets; its defaults TensorRT would refuse."""
    name = onnx.load(source).graph.input[0].name
    quantize_static(
        source, target, _Reader(name, images), quant_format=QuantFormat.QDQ, activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8, per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "DedicatedQDQPair": True, "AddQDQPairToWeight": True},
    )  # fmt: skip


def by_modelopt(source: Path, target: Path, images: Images, modelopt: str) -> None:
    """In a process of its own: ModelOpt changes global state."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.npy"
        np.save(data, images)
        path = os.pathsep.join(filter(None, [modelopt, os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [sys.executable, "-c", _MODELOPT, str(source), str(data), str(target)],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
    if done.returncode or not target.exists():
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])


def by_quantbench(source: Path, target: Path, images: Images, modelopt: str) -> None:
    """The rules as they are."""
    model = normalise(onnx.load(source))
    _insert(model, place(view_of(model)), target, images)


def by_quantbench_best(source: Path, target: Path, images: Images, modelopt: str) -> None:
    """`--placement best`."""
    model = normalise(onnx.load(source))
    _insert(model, best_placement(view_of(model)).plan, target, images)


def _insert(model: onnx.ModelProto, plan: Plan, target: Path, images: Images) -> None:
    names = [t for t in plan.tensors if t != model.graph.input[0].name]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None)
        for n in names
        if n not in {o.name for o in model.graph.output}
    )
    session = InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {model.graph.input[0].name: images[:1]}
    found = dict(zip(names, session.run(names, feed), strict=True)) | feed
    ranges = Ranges({name: TensorRange(max(float(np.abs(v).max()), 1e-6)) for name, v in found.items()})
    onnx.save(insert_qdq(model, plan, ranges), target)


TOOLS = {"onnxruntime": by_onnxruntime, "ModelOpt": by_modelopt, "quantbench": by_quantbench,
         "quantbench, best": by_quantbench_best}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Figures of one network quantized by one tool."""

    network: str
    tool: str
    predicted: Prediction | None
    compiled: dict[str, Any] | None
    trouble: str = ""

    def line(self) -> str:
        """As a row of the Markdown table."""
        p, c = self.predicted, self.compiled
        left, right = ["–"] * 5, ["–"] * 4
        if p is not None:
            numbers = (p.float_bytes / 1e6, moved_bytes(p) / 1e6)
            left = [str(p.int8_layers), str(len(p.leftover)), str(len(p.reformats)), *(f"{n:.2f}" for n in numbers)]
        if c is not None:
            right = [f"{c['weighted_int8']} of {c['weighted']}", str(len(c["conversions"])),
                     f"{c['float_between_bytes'] / 1e6:.2f}", f"{c['traffic_bytes'] / 1e6:.1f}"]  # fmt: skip
        return "| " + " | ".join([self.network, self.tool, *left, *right]) + " |"


def compare(network: str, tool: str, source: Path, folder: Path, images: Images, modelopt: str) -> Row:
    """Quantize, predict, compile."""
    target = folder / f"{source.stem}.{tool.replace(', ', '-')}.onnx"
    try:
        TOOLS[tool](source, target, images, modelopt)
    except (RuntimeError, ImportError) as error:
        return Row(network, tool, None, None, f"{tool}, {network}: {error}")
    model = normalise(onnx.load(target))
    onnx.save(model, target)
    weighted = [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    prediction = predict_model(model)
    try:
        layers = real_layers(tensorrt_rtx.build(target, BuildOptions(targets=("sm86",))))
    except QuantbenchError as error:
        return Row(network, tool, prediction, None, f"{tool}, {network}: RTX: {error}")
    return Row(network, tool, prediction, compile_summary(layers, (), weighted))


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/placement-compared.md"))
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "quantbench-compare")
    parser.add_argument("--modelopt", default="", help="folder with an unpacked nvidia-modelopt")
    parser.add_argument("--only", default="", help="one network")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    arguments.models.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for network, make in NETWORKS.items():
        if arguments.only and network != arguments.only:
            continue
        source = arguments.models / f"{network}.onnx"
        if not source.exists():
            make(source)
        shape = [d.dim_value for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim]
        images = np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)
        for tool in TOOLS:
            rows.append(compare(network, tool, source, arguments.models, images, arguments.modelopt))
            print(rows[-1].line(), rows[-1].trouble, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(document(rows), encoding="utf-8")


_HEADER = """# Q/DQ placement compared

Made by `scripts/compare_qdq.py`, batch 1, FP32 for what stays float. "Predicted" speaks of TensorRT 10 (`quantbench
predict`), "compiled" of TensorRT-RTX 1.7 (sm86, a real ahead-of-time build). They are different compilers: RTX lets
most INT8 convs write float and requantizes in other kernels, so its float bytes stay high whatever the placement.

- INT8: weighted layers that compute in INT8. Left over: Q and DQ that become a kernel of their own. Reformats: those
  and copies. Between: MB moved by float tensors between INT8 layers. Cost: MB moved by all float activations and
  reformats, which `--placement best` makes least.
- RTX: weighted nodes in INT8; kernels that only convert; MB of float tensors between INT8 layers; MB of all traffic.

| network | Q/DQ by | INT8 | left over | reformats | between | cost | RTX INT8 | conversions | between | traffic |
|---|---|---|---|---|---|---|---|---|---|---|
"""


_READING = """
## What it says

- **onnxruntime** (the options of its own TensorRT example, all operator types) quantizes what every operator writes, so
  a Q stands between each conv and its Relu, Clip or SiLU: those activations stay kernels of their own.
- **ModelOpt** places much as we do. On YOLOv8n it quantizes the last convs of the head and the DFL conv as well, which
  our rules keep in float for accuracy; it gives the Concats of the neck scales that differ, so Qs are left over there.
- **quantbench** leaves over, on ResNet-18, EfficientNet-Lite0 and MobileNetV2, the Q of the image, which something must
  be, and the DQ before the average pooling: for the pooling to run in INT8 what it writes would have to be quantized
  too, which `--placement best` finds and does (the DQ then stands behind it, on 49 times fewer values). On YOLOv8n the
  residual rule quantizes one input of each Add, right for conv + Add (+ Relu), where the conv takes the Add in; behind
  a SiLU it cannot, and the DQ is left over: there `best` quantizes both inputs.
- **Best** is least in cost and in float bytes between INT8 layers on all four, as predicted; level with ModelOpt on
  ResNet-18 and MobileNetV2. In left-over Q/DQ it is level with ModelOpt there, far below on YOLOv8n, and has one more
  on EfficientNet-Lite0, where ModelOpt leaves the pooling in float, which costs more bytes. That SiLU fuses into convs
  and that an Add of two DQs runs in INT8 are guesses.
- **RTX** tells a different story: whatever the placement, nearly every INT8 conv needs a conversion of its own, and
  traffic hardly differs. Float bytes between INT8 layers are fewest with our rules as they are (level with ModelOpt on
  EfficientNet-Lite0); what `best` does to the pooling costs a little there, for it was chosen for TensorRT. Total
  traffic is least with onnxruntime's Q/DQ, which also quantizes the last layers that the others keep in float.
"""


def document(rows: list[Row]) -> str:
    """The table with what could not be done."""
    text = _HEADER + "\n".join(row.line() for row in rows) + "\n"
    text += _READING
    troubles = [row.trouble for row in rows if row.trouble]
    return text + ("\n" + "\n".join(f"- {t}" for t in troubles) + "\n" if troubles else "")


if __name__ == "__main__":
    main()
