"""What the user named as model: an ONNX file, a demo model, or a torch checkpoint with its architecture."""

from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.ptq.request import ModelChoice

DEMO_PREFIX = "demo:"
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")


def model_path(model: ModelChoice) -> Path:
    """Path of the ONNX file of `model`. A checkpoint is exported into the cache folder.

    Raises QuantbenchError for a missing file, an unknown demo model, or a checkpoint without an architecture.
    """
    name = model.name
    if not name:
        raise QuantbenchError("no model: name an ONNX file, or a recipe with a model (quantbench recipes)")
    if name.startswith(DEMO_PREFIX):
        return _demo(name.removeprefix(DEMO_PREFIX))
    path = Path(name)
    if not path.exists():
        raise QuantbenchError(f"model {path} does not exist")
    if not path.is_file():
        raise QuantbenchError(f"model {path} is not a file")
    if path.suffix not in _CHECKPOINTS:
        return path
    if model.architecture is None:
        raise QuantbenchError(
            f"{path} is a torch checkpoint; name its architecture in a recipe (architecture: factory, input_shape), "
            f"or export it to ONNX; for YOLO use 'quantbench qat-export {path}'"
        )
    from quantbench.qat.export_checkpoint import export_checkpoint

    return export_checkpoint(path, model.architecture, trust=model.trust)


def display_name(name: str) -> str:
    """Short name of the model that a user named, for the run folder and the report."""
    return name.removeprefix(DEMO_PREFIX) if name.startswith(DEMO_PREFIX) else Path(name).stem


def _demo(name: str) -> Path:
    from quantbench.demo import efficientnet_lite0

    if name != efficientnet_lite0.NAME:
        raise QuantbenchError(f"no demo model {name!r}; there is {efficientnet_lite0.NAME}")
    return efficientnet_lite0.onnx_path()
