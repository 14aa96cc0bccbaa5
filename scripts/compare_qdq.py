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
from quantbench.core.quantize import quantize_with
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
    onnx.save(quantize_with(model, ranges).model, target)


TOOLS = {"onnxruntime": by_onnxruntime, "ModelOpt": by_modelopt, "quantbench": by_quantbench,
         "quantbench, best": by_quantbench_best}  # fmt: skip
# Only a detector has a head that the rules keep in float.
DETECTOR_TOOLS = {"quantbench, head INT8": by_quantbench_head}


@dataclass(frozen=True)
class Row:
    """Figures of one network quantized by one tool; `compiled` with FP32, `half` with FP16 for what stays float."""

    network: str
    tool: str
    predicted: dict[str, Prediction]
    compiled: LayerTotals | None = None
    half: LayerTotals | None = None
    trouble: str = ""

    def predicted_line(self) -> str:
        """As a row of the table of predictions."""
        cells = []
        for version in VERSIONS:
            p = self.predicted.get(version)
            if p is None:
                cells += ["–"] * 7
                continue
            cells += [str(n) for n in (p.int8_layers, len(p.leftover), len(p.reformats), len(p.layers))]
            cells += [f"{n / 1e6:.2f}" for n in (p.float_bytes, moved_bytes(p), cost_of(p))]
        return "| " + " | ".join([self.network, self.tool, *cells]) + " |"

    def compiled_line(self) -> str:
        """As a row of the table of RTX builds."""
        c, h = self.compiled, self.half
        cells = ["–"] * 4
        if c is not None:
            cells = [f"{c.weighted_int8} of {c.weighted}", str(len(c.conversions)),
                     f"{c.float_between_bytes / 1e6:.2f}", f"{c.traffic_bytes / 1e6:.2f}"]  # fmt: skip
        last = f"{h.traffic_bytes / 1e6:.2f}" if h is not None else "–"
        return "| " + " | ".join([self.network, self.tool, *cells, last]) + " |"


def compare(network: str, tool: str, source: Path, folder: Path, images: Images, arguments: argparse.Namespace) -> Row:
    """Quantize, predict, compile."""
    target = folder / f"{source.stem}.{tool.replace(', ', '-').replace(' ', '-')}.onnx"
    try:
        (TOOLS | DETECTOR_TOOLS)[tool](source, target, images, arguments.modelopt)
    except (RuntimeError, ImportError) as error:
        return Row(network, tool, {}, trouble=f"{tool}, {network}: {error}")
    model = normalise(onnx.load(target))
    onnx.save(model, target)
    predicted = {version: predict_model(model, version=version) for version in VERSIONS}
    if arguments.predict_only:
        return Row(network, tool, predicted)
    built: list[LayerTotals | None] = []
    trouble = ""
    for form, path in ((model, target), (to_fp16(model), target.with_suffix(".fp16.onnx"))):
        try:
            built.append(compile_by_rtx(form, path))
        except QuantbenchError as error:
            built.append(None)
            trouble = f"{tool}, {network}: {path.name}: {error}"
    compiled, half = built
    return Row(network, tool, predicted, compiled, half, trouble)


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
    parser.add_argument("--predict-only", action="store_true", help="no RTX builds: their table stays as it is")
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
            rows.append(compare(network, tool, source, arguments.models, images, arguments))
            print(rows[-1].predicted_line(), rows[-1].compiled_line(), rows[-1].trouble, flush=True)
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    page = out.read_text(encoding="utf-8")
    tables = {"predicted": [row.predicted_line() for row in rows]}
    if not arguments.predict_only:
        tables["compiled"] = [row.compiled_line() for row in rows]
    for name, lines in tables.items():
        page = with_table(page, name, [*_HEADS[name], *lines])
    out.write_text(page, encoding="utf-8")
    for row in rows:
        if row.trouble:
            print(row.trouble, file=sys.stderr)


def with_table(page: str, name: str, lines: list[str]) -> str:
    """`page` with the lines between the marks of table `name` replaced; the reading around them is written by hand."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return "\n".join([before + start, "", *lines, "", end + after])


VERSIONS = ("8.5", "10.9")
_FIGURES = ("INT8", "left over", "reformats", "kernels", "between", "float", "cost")
_PREDICTED = [f"{figure} ({version})" for version in VERSIONS for figure in _FIGURES]
_COMPILED = ["INT8", "conversions", "between", "traffic", "with FP16"]
_HEADS = {
    name: ["| " + " | ".join(["network", "Q/DQ by", *columns]) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, columns in (("predicted", _PREDICTED), ("compiled", _COMPILED))
}


if __name__ == "__main__":
    main()
