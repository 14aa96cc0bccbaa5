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
from quantbench.compilation.engine_layers import real_layers
from quantbench.compilation.traffic import compile_summary
from quantbench.demo import efficientnet_lite0, resnet18
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.graph.to_fp16 import to_fp16
from quantbench.predict.best import best_placement
from quantbench.predict.cost import cost_of, moved_bytes
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict_model
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.records.compiled import LayerTotals

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

    net = import_torchvision().models.mobilenet_v2(weights=None)
    _settle(net, 224)
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), str(path), opset_version=17, dynamo=False)


def build_yolov8n(path: Path) -> None:
    """ultralytics' YOLOv8n with random weights, batch norms folded."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())
    import torch
    from ultralytics import YOLO

    net = YOLO("yolov8n.yaml").model
    _settle(net, 320)
    net = net.fuse()
    for module in net.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
        if type(module).__name__ == "C2f":
            module.forward = module.forward_split
    torch.onnx.export(net, (torch.zeros(1, 3, 640, 640),), str(path), opset_version=17, dynamo=False)


def _settle(net: Any, size: int) -> None:
    """Let the batch norms see images: with their first statistics random weights make activations that vanish."""
    import torch

    torch.manual_seed(0)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(4, 3, size, size))
    net.eval()


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


def by_quantbench_head(source: Path, target: Path, images: Images, modelopt: str) -> None:
    """The rules with `head_float: false`."""
    model = normalise(onnx.load(source))
    _insert(model, place(view_of(model), PlacementOptions(head_float=False)), target, images)


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
# Only a detector has a head that the rules keep in float.
DETECTOR_TOOLS = {"quantbench, head INT8": by_quantbench_head}


@dataclass(frozen=True)
class Row:
    """Figures of one network quantized by one tool; `compiled` with FP32, `half` with FP16 for what stays float."""

    network: str
    tool: str
    predicted: Prediction | None
    compiled: LayerTotals | None
    half: LayerTotals | None
    trouble: str = ""

    def line(self) -> str:
        """As a row of the Markdown table."""
        p, c, h = self.predicted, self.compiled, self.half
        left, right, last = ["–"] * 7, ["–"] * 4, "–"
        if p is not None:
            megabytes = [f"{n / 1e6:.2f}" for n in (p.float_bytes, moved_bytes(p), cost_of(p))]
            left = [str(n) for n in (p.int8_layers, len(p.leftover), len(p.reformats), len(p.layers))] + megabytes
        if h is not None:
            last = f"{h.traffic_bytes / 1e6:.2f}"
        if c is not None:
            right = [f"{c.weighted_int8} of {c.weighted}", str(len(c.conversions)),
                     f"{c.float_between_bytes / 1e6:.2f}", f"{c.traffic_bytes / 1e6:.2f}"]  # fmt: skip
        return "| " + " | ".join([self.network, self.tool, *left, *right, last]) + " |"


def compare(network: str, tool: str, source: Path, folder: Path, images: Images, modelopt: str) -> Row:
    """Quantize, predict, compile."""
    target = folder / f"{source.stem}.{tool.replace(', ', '-').replace(' ', '-')}.onnx"
    try:
        (TOOLS | DETECTOR_TOOLS)[tool](source, target, images, modelopt)
    except (RuntimeError, ImportError) as error:
        return Row(network, tool, None, None, None, f"{tool}, {network}: {error}")
    model = normalise(onnx.load(target))
    onnx.save(model, target)
    prediction = predict_model(model)
    built: list[LayerTotals | None] = []
    trouble = ""
    for form, path in ((model, target), (to_fp16(model), target.with_suffix(".fp16.onnx"))):
        try:
            built.append(compile_by_rtx(form, path))
        except QuantbenchError as error:
            built.append(None)
            trouble = f"{tool}, {network}: {path.name}: {error}"
    compiled, half = built
    return Row(network, tool, prediction, compiled, half, trouble)


def compile_by_rtx(model: onnx.ModelProto, path: Path) -> LayerTotals:
    """Figures of the engine for sm86. Raises QuantbenchError."""
    onnx.save(model, path)
    layers = real_layers(tensorrt_rtx.build(path, BuildOptions(targets=("sm86",))))
    weighted = [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return compile_summary(layers, (), weighted)


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
        for tool in TOOLS | (DETECTOR_TOOLS if network == "YOLOv8n" else {}):
            rows.append(compare(network, tool, source, arguments.models, images, arguments.modelopt))
            print(rows[-1].line(), rows[-1].trouble, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(document(rows), encoding="utf-8")


_HEADER = """# Q/DQ placement compared

Made by `scripts/compare_qdq.py`, batch 1. "Predicted" speaks of TensorRT 10 (`quantbench predict`), with FP32 for what
stays float; "compiled" of TensorRT-RTX 1.7 (sm86, a real ahead-of-time build). They are different compilers: RTX lets
most INT8 convs write float and requantizes in other kernels, so its float bytes stay high whatever the placement.

- Predicted. INT8: weighted layers that compute in INT8. Left over: Q and DQ that become a kernel of their own.
  Reformats: those and copies. Kernels: layers in all. Between: MB moved by float tensors between INT8 layers. Float: MB
  moved by all float activations and weights and by reformats. Cost: these and 3.5 MB a kernel, as an A100 prices it
  (`quantbench/predict/cost.py`); `--placement best` makes it least.
- RTX: weighted nodes in INT8; kernels that only convert; MB of float tensors between INT8 layers; MB of all traffic;
  the same where FP16 is the float (what `quantbench ptq` builds).

| network | Q/DQ by | INT8 | left over | reformats | kernels | between | float | cost | RTX INT8 | conversions | between | traffic | with FP16 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501


_READING = """
## What it says

- **onnxruntime** (the options of its own TensorRT example, all operator types) quantizes what every operator writes, so
  a Q stands between each conv and its Relu, Clip or SiLU: those activations stay kernels of their own.
- **ModelOpt** leaves the classifiers' last layer in float, and with it a pooling or a DQ before it. On YOLOv8n it
  quantizes the last convs of the head, and the DFL conv, which costs accuracy (below); the Concats of the neck get
  scales that differ, so Qs are left over there. How many depends on the ranges.
- **quantbench**'s rules leave over one Q in each network, that of the image, which something must be, and cost less
  than the other tools' Q/DQ everywhere. `best` tries their variants and finds none that costs less still.
- **Where ours is not best.** YOLOv8n: 57 of 64 layers in INT8, and more float MB than ModelOpt (but none between INT8
  layers, and fewer kernels), because the six output convs and the DFL stay in float. With the convs in INT8
  (`head_float: false`, the last row) ours is first in float MB and in RTX's FP32 traffic, too; with FP16, which is what
  one builds, RTX moves less with them in float. EfficientNet-Lite0 on RTX: one conversion and 0.25 MB between INT8
  layers more than ModelOpt, because the INT8 Gemm wants its pooled input in INT8 and its result scaled; for that RTX
  reads 3.8 MB of weights less (1.3 with FP16). In RTX's INT8 layers, conversions and traffic the classifiers are level
  with onnxruntime's Q/DQ: RTX undoes its extra Q/DQ, TensorRT does not.
- **Squeeze-and-excite** (none of the four networks has it): its convs work on a pooled vector, and each would need a Q of
  its own, so they stay float (`squeeze_float`). PP-OCRv6's detector, 26 such convs: 48 left over and 213 kernels become
  35 and 200 as predicted, 193 kernels and 78.3 MB become 167 and 76.8 on RTX with FP16; its direction classifier, 18:
  111 kernels become 94 (35.7 MB both). SQNR of the detector on 32 crops, minmax: 2.4 dB before, 5.5 after.
- **A bias that is an Add of its own** (Paddle) does not part the conv from the residual Add: in the same detector 200
  predicted kernels become 190, and SQNR goes from 5.5 to 10.6 dB, as fewer tensors are quantized.
- That SiLU fuses into convs and that an Add of two DQs runs in INT8 are guesses of the predictor.

## What the choices cost in accuracy

Trained models, pictures that they were not calibrated on, in onnxruntime with bias correction.

| choice | model, pictures | without | with |
|---|---|---|---|
| classifier's last Gemm in INT8 | EfficientNet-Lite0, 300 crops, minmax | 99.3 % agreement, 21.15 dB | 99.3 %, 20.96 dB |
| | the same, mse | 99.0 %, 21.43 dB | 99.0 %, 21.25 dB |
| | the same, 20 labelled photos, minmax; mse | 17; 18 right (float: 18) | 18; 18 |
| | animals_resnet18, 2,000 labelled, minmax; mse | 98.20; 98.25 % top-1 (float: 98.25 %) | 98.20; 98.25 % |
| | animals_mobilenetv2, 2,000 labelled, minmax; mse | 98.30; 98.30 % (float: 98.35 %) | 98.25; 98.30 % |
| | mobilenetv2-digits, 4,000 labelled, minmax; mse (no correction) | 86.15; 86.20 % (float: 86.18 %) | 86.15; 86.20 % |
| both inputs of YOLO's Adds, not one | yolov8n-scenes, 1,000 scenes, minmax; mse | 80.27; 80.64 % mAP50-95 (float: 80.41 %) | 80.01; 80.64 % |
| output convs of its head in INT8 | the same | 80.01; 80.64 % | 79.97; 80.59 % |
| its DFL conv in INT8, too | the same | 79.97; 80.59 % | 79.06; 78.82 % |

So the rules quantize a classifier's last layer (a Gemm with 8 outputs and more behind a global average pooling) and
both inputs of an Add that no conv can take in, and keep the DFL in float. The output convs of a detector cost nothing
on this one, small detector; ultralytics found them sensitive on COCO's and keeps them in float (pull requests 26171 and
26220), and so do the rules.
"""  # noqa: E501


def document(rows: list[Row]) -> str:
    """The table with what could not be done."""
    text = _HEADER + "\n".join(row.line() for row in rows) + "\n"
    text += _READING
    troubles = [row.trouble for row in rows if row.trouble]
    return text + ("\n" + "\n".join(f"- {t}" for t in troubles) + "\n" if troubles else "")


if __name__ == "__main__":
    main()
