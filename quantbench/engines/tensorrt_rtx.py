"""TensorRT-RTX: ahead-of-time builds for a list of GPU architectures, with no GPU in the machine."""

import time
from pathlib import Path
from typing import Any

from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build_log import BuildLog
from quantbench.engines.parse_errors import build_error, parser_error
from quantbench.engines.shapes import complete_profiles
from quantbench.errors import QuantbenchError

BACKEND = "tensorrt-rtx"
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
    header = f"quantbench.build [TensorRT-RTX v{trt.__version__}] # {model} {','.join(targets)}"
    with BuildLog(header, options.log_file) as log:
        builder = trt.Builder(_logger(trt, log))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, builder.logger)
        if not parser.parse_from_file(str(model)):
            raise parser_error(model, BACKEND, parser, log.errors)
        config = builder.create_builder_config()
        _configure(trt, config, options, targets)
        notes = _add_profiles(builder, network, config, options)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise build_error(model, BACKEND, log.errors, options.log_file)
        return BuildResult(
            engine=bytes(memoryview(plan)),
            backend=BACKEND,
            version=trt.__version__,
            seconds=time.monotonic() - started,
            log=log.text(),
            log_file=options.log_file,
            targets=tuple(targets),
            notes=notes,
        )


def load() -> Any:
    """Import `tensorrt_rtx`; raises QuantbenchError with the way to get it."""
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise QuantbenchError(
            f"tensorrt-rtx cannot be loaded ({error}); pip install tensorrt-rtx (Linux or Windows, x86-64)"
        ) from error
    return tensorrt_rtx


def known_targets(trt: Any) -> tuple[str, ...]:
    """Architectures that this wheel compiles for, as users write them (sm75 …)."""
    return tuple(sorted(name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")))


def _configure(trt: Any, config: Any, options: BuildOptions, targets: tuple[str, ...]) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = trt.ComputeCapability.__members__.get(target.upper())
        if capability is None or not config.set_compute_capability(capability, index):
            known = ", ".join(known_targets(trt))
            raise QuantbenchError(f"tensorrt-rtx {trt.__version__} has no target {target!r}; it knows {known}")
    flags = trt.BuilderFlag
    for wanted, flag in (
        (options.refittable, flags.REFIT),
        (options.version_compatible, flags.VERSION_COMPATIBLE),
        (options.sparsity, flags.SPARSE_WEIGHTS),
    ):
        if wanted:
            config.set_flag(flag)
    if "fp32" in options.precisions and "tf32" not in options.precisions:
        config.clear_flag(flags.TF32)
    for name, size in options.pools.items():
        config.set_memory_pool_limit(trt.MemoryPoolType.__members__[name.upper()], size)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level


def _add_profiles(builder: Any, network: Any, config: Any, options: BuildOptions) -> tuple[str, ...]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in tensors}
    profiles, notes = complete_profiles(shapes, options.profiles, options.default_batch)
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, (low, best, high) in profile.shapes.items():
            made.set_shape(name, low, best, high)
        if config.add_optimization_profile(made) < 0:
            raise QuantbenchError(f"{BACKEND} refused the optimization profile {dict(profile.shapes)}")
    return notes


def _logger(trt: Any, log: BuildLog) -> Any:
    # Made by type(): the base class is only known at run time.
    def start(self: Any) -> None:
        trt.ILogger.__init__(self)

    def write(self: Any, severity: Any, message: str) -> None:
        log.write(int(severity), message)

    return type("Logger", (trt.ILogger,), {"__init__": start, "log": write})()
