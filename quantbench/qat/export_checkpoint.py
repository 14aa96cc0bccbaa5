"""A float checkpoint with a named architecture, exported to ONNX for `quantbench ptq`."""

import os
from pathlib import Path

from quantbench.graph.load import model_sha256
from quantbench.graph.save import save_model
from quantbench.load_object import load_object, source_sha256
from quantbench.provenance import chosen_versions
from quantbench.qat.models import load_model
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from quantbench.recipe import Architecture
from quantbench.stage import digest


def export_checkpoint(path: Path, architecture: Architecture, *, trust: bool = False) -> Path:
    """ONNX file of the checkpoint, opset 18, batch dynamic, batch norms folded; made once, kept in the cache folder.

    Raises QuantbenchError where checkpoint and architecture do not fit or the exporter refuses the model.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "quantbench" / "exported"
    factory = source_sha256(load_object(architecture.factory))
    versions = chosen_versions("torch", "onnx", "onnxscript")
    key = digest([model_sha256(path), architecture, factory, versions])[:16]
    target = cache / f"{path.stem}-{key}.onnx"
    if not target.exists():
        model = load_model(str(path), architecture=architecture, trust=trust)
        options = ExportOptions(dynamic_batch=True, input_name=model.input_name, output_names=model.output_names)
        exported = export_onnx(model.module, model.example, trace(model.module, model.example).folds, options)
        save_model(exported, target)
    return target
