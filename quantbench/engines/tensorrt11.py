"""TensorRT 11: strongly typed only. INT8 and half precision are in the ONNX file (`quantbench.engines.prepare`)."""

import time
from pathlib import Path
from typing import Any

from quantbench.engines import tensorrt_common as common
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build_log import BuildLog
from quantbench.engines.facts import TENSORRT11
from quantbench.engines.parse_errors import build_error

BACKEND = TENSORRT11


def build(trt: Any, model: Path, options: BuildOptions) -> BuildResult:
    """Build the ONNX file for the GPU of this machine with the imported `tensorrt` 11.

    Raises QuantbenchError where the parser or the builder refuses it (the line names node and operator).
    """
    started = time.monotonic()
    title = f"TensorRT {trt.__version__}"
    header = f"quantbench.build [TensorRT v{trt.__version__}] # {model}"
    with BuildLog(header, options.log_file) as log:
        logger = common.make_logger(trt, log)
        builder = trt.Builder(logger)
        common.load_plugins(trt, builder, logger, options.plugins)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        alive = common.parse(trt, network, logger, model, title, log)
        config = builder.create_builder_config()
        common.configure(trt, config, options, title)
        common.use_timing_cache(trt, config, options, title, edit=True)
        _, notes = common.add_profiles(builder, network, config, options)
        if options.build_route:
            notes.append(f"build route {options.build_route}")
        plan = builder.build_serialized_network(network, config)
        del alive
        if plan is None:
            raise build_error(model, title, log.errors, options.log_file)
        if options.timing_cache is not None:
            common.keep_timing_cache(config, options.timing_cache)
        return BuildResult(
            engine=bytes(memoryview(plan)),
            backend=BACKEND,
            version=trt.__version__,
            seconds=time.monotonic() - started,
            log=log.text(),
            log_file=options.log_file,
            notes=tuple(notes),
        )
