"""TensorRT 10 and older: weak typing with precision flags, calibrators, dynamic ranges; explicit Q/DQ as well."""

import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.calibrator import Calibrator
from quantbench.engines import tensorrt_common as common
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build_log import BuildLog
from quantbench.engines.device import Device
from quantbench.engines.facts import CONSTRAINT_FLAGS, DATA_TYPES, PRECISION_FLAGS, TENSORRT10
from quantbench.engines.parse_errors import build_error
from quantbench.engines.shapes import Profile
from quantbench.engines.tactic_choice import selector, tactic_rules
from quantbench.engines.tensorrt_calibrator import tensorrt_calibrator
from quantbench.errors import QuantbenchError

BACKEND = TENSORRT10
# A tensor that calibration only saw as zero still needs a range above 0.
_LEAST_AMAX = 1.0 / INT8_MAX


def build(trt: Any, model: Path, options: BuildOptions, device: Device | None) -> BuildResult:
    """Build the ONNX file for the GPU of this machine with the imported `tensorrt` 10 or older.

    INT8 comes from Q/DQ in the file, else from `options.ranges` (dynamic ranges), else from `options.calibrator`
    (TensorRT runs it at the opt shape of the first profile; `device` holds its buffers, and is needed then alone). With
    `options.strongly_typed` the types come from the file alone.

    Raises QuantbenchError where the parser or the builder refuses it (the line names node and operator).
    """
    started = time.monotonic()
    title = f"TensorRT {trt.__version__}"
    header = f"quantbench.build [TensorRT v{trt.__version__}] # {model}"
    creation = trt.NetworkDefinitionCreationFlag
    with BuildLog(header, options.log_file) as log:
        logger = common.make_logger(trt, log)
        builder = trt.Builder(logger)
        common.load_plugins(trt, builder, logger, options.plugins)
        wanted = "STRONGLY_TYPED" if options.strongly_typed else "EXPLICIT_BATCH"
        kind = common.member(creation, wanted, "network flag", title)
        network = builder.create_network(1 << int(kind))
        alive = common.parse(trt, network, logger, model, title, log)
        config = builder.create_builder_config()
        common.configure(trt, config, options, title)
        rules = tactic_rules(options)
        if rules is not None:
            config.algorithm_selector = selector(trt, rules)
        common.use_timing_cache(trt, config, options, title)
        profiles, notes = common.add_profiles(builder, network, config, options)
        if not options.strongly_typed:
            notes += _precisions(trt, builder, network, config, options, profiles, device)
        plan = builder.build_serialized_network(network, config)
        del alive
        if plan is None:
            raise build_error(model, title, log.errors, options.log_file)
        if options.timing_cache is not None:
            common.keep_timing_cache(config, options.timing_cache)
        notes += rules.notes if rules is not None else []
        return BuildResult(
            engine=bytes(memoryview(plan)),
            backend=BACKEND,
            version=trt.__version__,
            seconds=time.monotonic() - started,
            log=log.text(),
            log_file=options.log_file,
            notes=tuple(notes),
        )


def _precisions(
    trt: Any,
    builder: Any,
    network: Any,
    config: Any,
    options: BuildOptions,
    profiles: Sequence[Profile],
    device: Device | None,
) -> list[str]:
    flags = [flag for name in sorted(options.precisions) for flag in PRECISION_FLAGS[name]]
    explicit = any(layer.type == trt.LayerType.QUANTIZE for layer in common.layers_of(network))
    calibrated = options.ranges is not None or isinstance(options.calibrator, Calibrator)
    if "best" in options.precisions and (explicit or calibrated):
        flags.append("INT8")
    if "best" in options.precisions:  # all that this version has: BF16 came with 9
        flags = [flag for flag in flags if flag in trt.BuilderFlag.__members__]
    if options.precision_constraints != "none":
        flags.append(CONSTRAINT_FLAGS[options.precision_constraints])
    for flag in flags:
        config.set_flag(common.member(trt.BuilderFlag, flag, "builder flag", f"TensorRT {trt.__version__}"))
    _layer_precisions(trt, network, options.layer_precisions)
    if "INT8" not in flags or explicit:
        return ["Q/DQ in the model: ranges and calibrator are not used"] if explicit and calibrated else []
    if options.ranges is not None:
        return _dynamic_ranges(network, options.ranges)
    if isinstance(options.calibrator, Calibrator) and device is not None:
        config.int8_calibrator = tensorrt_calibrator(trt, options.calibrator, device)
        batch = options.calibrator.get_batch_size()
        profile = calibration_profile(common.inputs_of(network), profiles, batch)
        if profile is not None and not config.set_calibration_profile(common.make_profile(builder, profile)):
            raise QuantbenchError("TensorRT refused the calibration profile; give --shapes with another opt shape")
        return ["INT8: TensorRT runs the calibrator"]
    raise QuantbenchError(
        "INT8 of a model without Q/DQ needs --calib-dir, --ranges, or a Q/DQ model from quantbench ptq"
    )


def calibration_profile(tensors: Sequence[Any], profiles: Sequence[Profile], batch: int) -> Profile | None:
    """The opt shapes of the first profile with `batch` images; None for a static network.

    Raises QuantbenchError where a static network has another batch size: TensorRT would read past the buffer.
    """
    shapes = {}
    for tensor in tensors:
        known = tuple(tensor.shape)
        if -1 not in known:
            if known and known[0] != batch:
                raise QuantbenchError(
                    f"input {tensor.name} has a fixed batch of {known[0]}, the calibrator one of {batch}; "
                    f"give --calib-batch {known[0]}"
                )
            continue
        best = profiles[0].shapes[tensor.name][1]
        shape = (batch, *best[1:]) if known[0] == -1 else best
        shapes[tensor.name] = (shape, shape, shape)
    return Profile(shapes) if shapes else None


def _dynamic_ranges(network: Any, ranges: Ranges) -> list[str]:
    tensors = common.inputs_of(network)
    for layer in common.layers_of(network):
        tensors += [layer.get_output(index) for index in range(layer.num_outputs)]
    without = 0
    for tensor in tensors:
        if tensor.name in ranges:
            amax = ranges[tensor.name].amax or _LEAST_AMAX
            tensor.set_dynamic_range(-amax, amax)
        else:
            without += 1
    return [f"INT8: ranges on {len(tensors) - without} of {len(tensors)} tensors; layers without one stay float"]


def _layer_precisions(trt: Any, network: Any, wanted: Sequence[tuple[str, str]]) -> None:
    for pattern, precision in wanted:
        matching = [layer for layer in common.layers_of(network) if fnmatchcase(layer.name, pattern)]
        if not matching:
            raise QuantbenchError(f"--layer-precision {pattern}={precision}: no layer of the network has such a name")
        kind = common.member(
            trt.DataType, DATA_TYPES.get(precision, precision), "precision", f"TensorRT {trt.__version__}"
        )
        for layer in matching:
            outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
            # Shape arithmetic computes in integers; a float precision there is an error.
            if all(output.dtype in (trt.DataType.FLOAT, trt.DataType.HALF) for output in outputs):
                layer.precision = kind
