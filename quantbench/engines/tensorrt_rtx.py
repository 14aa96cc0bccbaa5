"""TensorRT-RTX: NVIDIA's real compiler, ahead of time, for a named GPU family and without a GPU."""

import importlib.util
import platform
import time
from pathlib import Path
from typing import Any

from quantbench.engines.base import Availability, BuildOptions, BuildResult
from quantbench.errors import QuantbenchError

NAME = "tensorrt-rtx"
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
_INSTALL = "pip install tensorrt-rtx (wheels: Linux x86-64 and Windows)"


def availability() -> Availability:
    """Whether TensorRT-RTX can be imported here; never raises."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        reason = "not installed"
        if platform.system() == "Linux" and platform.machine() != "x86_64":
            reason = f"no wheel for {platform.machine()}"
        return Availability(NAME, False, reason=reason, how_to_install=_INSTALL)
    try:
        import tensorrt_rtx as trt
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(NAME, False, reason=str(error).splitlines()[0], how_to_install=_INSTALL)
    return Availability(NAME, True, trt.__version__, ("build", "inspect"))


def build(model: Path, options: BuildOptions) -> BuildResult:
    """Compile the ONNX file `model` (external data beside it) for `options.target`.

    Dynamic inputs need shapes in `options`. Raises QuantbenchError where TensorRT-RTX is absent, the target or a shape
    is unknown, or the parser or builder refuses the model (with the node, the operator and NVIDIA's own words).
    """
    found = availability()
    if not found.available:
        raise QuantbenchError(f"TensorRT-RTX is not here ({found.reason}); {found.how_to_install}")
    if options.target not in TARGETS:
        raise QuantbenchError(f"TensorRT-RTX has no target {options.target!r}; it has {', '.join(TARGETS)}")
    import tensorrt_rtx as trt

    log = _logger(trt)
    start = time.monotonic()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        raise QuantbenchError(f"TensorRT-RTX cannot parse {model}: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, options.target.upper()), 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _add_profile(builder, config, network, options)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise QuantbenchError(f"TensorRT-RTX cannot build {model} for {options.target}: {log.last_error}")
    return BuildResult(bytes(engine), "\n".join(log.lines) + "\n", NAME, found.version, time.monotonic() - start)


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps every message, one line each, the way `print(severity, message)` of NVIDIA's samples does."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.last_error = "no reason given; see build.log"

        def log(self, severity: Any, message: str) -> None:
            prefix = f"{severity} "
            first, *rest = message.split("\n")
            # Lines after `Layers:` carry no prefix in any of NVIDIA's logs.
            self.lines += [prefix + first, *rest]
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = first

    return Log()


def _parser_error(parser: Any) -> str:
    if not parser.num_errors:
        return "no reason given"
    error = parser.get_error(0)
    node = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    where = f"node {node!r} ({operator}): " if node or operator else ""
    return f"{where}{error.desc()}".split("\n")[0]


def _add_profile(builder: Any, config: Any, network: Any, options: BuildOptions) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    unknown = [name for name in options.shapes if name not in {tensor.name for tensor in inputs}]
    if unknown:
        raise QuantbenchError(f"no input {unknown[0]!r}; the inputs are {', '.join(tensor.name for tensor in inputs)}")
    if all(-1 not in tuple(tensor.shape) for tensor in inputs):
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        given = options.shapes.get(tensor.name)
        shape = tuple(tensor.shape)
        if given is None and -1 in shape:
            raise QuantbenchError(f"input {tensor.name!r} has dynamic shape {list(shape)}; give its shapes")
        low, best, high = given or (shape, shape, shape)
        profile.set_shape(tensor.name, low, best, high)
    config.add_optimization_profile(profile)
