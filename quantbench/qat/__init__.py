"""Quantization-aware training: safe loading, insertion by the Plan, calibration, fine-tuning, export.

In Python, on a module of your own: `prepare`, `calibrate`, your training loop, `export` (quantbench.qat.public).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantbench.qat.public import calibrate as calibrate
    from quantbench.qat.public import export as export
    from quantbench.qat.public import prepare as prepare

__all__ = ["calibrate", "export", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'quantbench.qat' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("quantbench.qat.public"), name)
