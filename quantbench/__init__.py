"""quantbench: an INT8 quantization workbench. PTQ, QAT, Q/DQ placement, engine inspection."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from quantbench import qat as qat
    from quantbench.api.functions import build as build
    from quantbench.api.functions import evaluate as evaluate
    from quantbench.api.functions import inspect as inspect
    from quantbench.api.functions import lint as lint
    from quantbench.api.functions import predict as predict
    from quantbench.api.functions import read_cache as read_cache
    from quantbench.api.functions import report as report
    from quantbench.api.quantized import Quantized as Quantized
    from quantbench.api.quantized import quantize as quantize
    from quantbench.errors import QuantbenchError as QuantbenchError
    from quantbench.qdq.options import PlacementOptions as PlacementOptions

# Name to the module that holds it: loaded when it is first used, so that `import quantbench` costs nothing.
_PUBLIC = {
    "quantize": "quantbench.api.quantized", "Quantized": "quantbench.api.quantized",
    **dict.fromkeys(("inspect", "read_cache", "build"), "quantbench.api.functions"),
    "PlacementOptions": "quantbench.qdq.options", "QuantbenchError": "quantbench.errors",
}  # fmt: skip
# Packages that are functions too (quantbench.callable_rooms), and qat.
_ROOMS = ("predict", "lint", "evaluate", "report", "qat")
__all__ = ["PlacementOptions", "QuantbenchError", "Quantized", "__version__", "build", "evaluate", "inspect", "lint",
           "predict", "quantize", "read_cache", "report"]  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name in _ROOMS:
        return importlib.import_module(f"quantbench.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'quantbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "qat"])
