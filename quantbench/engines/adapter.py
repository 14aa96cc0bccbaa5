"""The adapter of each backend by its family, called in the process that builds; it imports what that family needs."""

from pathlib import Path

from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.facts import TENSORRT10, TENSORRT11, TENSORRT_RTX


def build_here(family: str, model: Path, options: BuildOptions) -> BuildResult:
    """Build `model` with the backend `family` (a key of FACTS) in this process. Raises as the adapter does."""
    if family == TENSORRT_RTX:
        from quantbench.engines import tensorrt_rtx

        return tensorrt_rtx.build(model, options)
    if family == TENSORRT11:
        from quantbench.engines import tensorrt11, tensorrt_load

        return tensorrt11.build(tensorrt_load.load(), model, options)
    if family == TENSORRT10:
        from quantbench.engines import tensorrt10, tensorrt_load
        from quantbench.engines.device import open_device

        device = open_device() if options.calibrator is not None else None
        return tensorrt10.build(tensorrt_load.load(), model, options, device)
    from quantbench.engines import onnxruntime_cpu

    return onnxruntime_cpu.build(model, options)
