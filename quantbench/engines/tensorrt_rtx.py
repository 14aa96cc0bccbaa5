"""TensorRT-RTX: ahead-of-time builds for a list of GPU architectures, with no GPU in the machine."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantbench.engines import tensorrt_common as common
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build_log import BuildLog
from quantbench.engines.facts import FACTS, TENSORRT_RTX
from quantbench.engines.parse_errors import build_error
from quantbench.errors import QuantbenchError

BACKEND = TENSORRT_RTX
DEFAULT_TARGETS = ("sm86",)


def build(model: Path, options: BuildOptions) -> BuildResult:
    """Compile the ONNX file `model` (external data is found beside it) for `options.targets`, default sm86.

    The network is strongly typed: types come from the file, INT8 from its Q/DQ. Precisions and ranges are carried
    out on the ONNX before (`quantbench.engines.prepare`), not here. Layers are read from the log by
    `quantbench.inspection`.

    Raises QuantbenchError where the wheel is missing, the file has an operator that the parser lacks (the line names
    node and operator), a shape is missing, a target is unknown or the build fails.
    """
    trt = load()
    targets = options.targets or DEFAULT_TARGETS
    started = time.monotonic()
    title = f"TensorRT-RTX {trt.__version__}"
    header = f"quantbench.build [TensorRT-RTX v{trt.__version__}] # {model} {','.join(targets)}"
    with BuildLog(header, options.log_file) as log:
        logger = common.make_logger(trt, log)
        builder = trt.Builder(logger)
        common.load_plugins(trt, builder, logger, options.plugins)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        alive = common.parse(trt, network, logger, model, title, log)
        config = builder.create_builder_config()
        common.configure(trt, config, options, title)
        _set_targets(trt, config, targets)
        _, notes = common.add_profiles(builder, network, config, options)
        plan = builder.build_serialized_network(network, config)
        del alive
        if plan is None:
            raise build_error(model, title, log.errors, options.log_file)
        return BuildResult(
            engine=bytes(memoryview(plan)),
            backend=BACKEND,
            version=trt.__version__,
            seconds=time.monotonic() - started,
            log=log.text(),
            log_file=options.log_file,
            targets=tuple(targets),
            notes=tuple(notes),
        )


def load() -> Any:
    """Import `tensorrt_rtx`; raises QuantbenchError with the way to get it."""
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise QuantbenchError(f"tensorrt-rtx cannot be loaded ({error}); {FACTS[BACKEND].install}") from error
    return tensorrt_rtx


def known_targets(trt: Any) -> tuple[str, ...]:
    """Architectures that this wheel compiles for, as users write them (sm75 …)."""
    names = (name for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
    return tuple(sorted((name.lower() for name in names), key=lambda name: int(name[2:])))


def check_targets(trt: Any, targets: Sequence[str]) -> None:
    """Raise QuantbenchError for a target that this wheel does not compile for."""
    known = known_targets(trt)
    for target in targets:
        if target not in known:
            raise QuantbenchError(
                f"tensorrt-rtx {trt.__version__} has no target {target!r}; it knows {', '.join(known)}"
            )


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    check_targets(trt, targets)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(trt.ComputeCapability.__members__[target.upper()], index):
            raise QuantbenchError(f"tensorrt-rtx {trt.__version__} refuses to build for {target}")
