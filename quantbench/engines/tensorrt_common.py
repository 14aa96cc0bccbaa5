"""What the three TensorRT families share: logger, parser, config, profiles. `trt` is whichever was imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantbench.engines.base import BuildOptions
from quantbench.engines.build_log import BuildLog
from quantbench.engines.facts import FLAGS, GONE
from quantbench.engines.network_function import filled, is_network_function
from quantbench.engines.parse_errors import parser_error
from quantbench.engines.shapes import Profile, complete_profiles
from quantbench.engines.tactic_choice import edit_timing_cache, is_timing_cache
from quantbench.errors import QuantbenchError


def make_logger(trt: Any, log: BuildLog) -> Any:
    """An ILogger that writes everything, verbose included, to `log`."""

    # Made by type(): the base class is only known at run time.
    def start(self: Any) -> None:
        trt.ILogger.__init__(self)

    def write(self: Any, severity: Any, message: str) -> None:
        log.write(int(severity), message)

    return type("Logger", (trt.ILogger,), {"__init__": start, "log": write})()


def load_plugins(trt: Any, owner: Any, logger: Any, plugins: Sequence[Path]) -> None:
    """Load TensorRT's own plugins and the libraries of the user's into the registry of `owner` (a builder or runtime).

    Raises QuantbenchError where a library cannot be loaded, or brings a plugin that is there already.
    """
    if hasattr(trt, "init_libnvinfer_plugins"):  # the lean and dispatch runtimes have none
        trt.init_libnvinfer_plugins(logger, "")
    if not plugins:
        return
    registry = owner.get_plugin_registry()
    for path in plugins:
        if registry.load_library(str(path.resolve())) is None:
            raise QuantbenchError(
                f"--plugin {path} cannot be loaded: it is no library for this TensorRT, or its plugins are there "
                f"already"
            )


def parse(trt: Any, network: Any, logger: Any, model: Path, title: str, log: BuildLog) -> object:
    """Fill `network` from the ONNX file, or by the function that `model` names; returns what must live until the build
    is over. Raises QuantbenchError naming node and operator where that fails."""
    if is_network_function(model):
        return filled(trt, network, model)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise parser_error(model, title, parser, log.errors)
    if network.num_outputs == 0:
        raise QuantbenchError(f"{model} is not an ONNX model: it holds no graph with outputs")
    return parser


def configure(trt: Any, config: Any, options: BuildOptions, title: str) -> None:
    """Everything that all families spell alike. Raises QuantbenchError for names that this version does not know."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for option, flag in FLAGS.items():
        if getattr(options, option):
            config.set_flag(member(trt.BuilderFlag, flag, "builder flag", title))
    if "fp32" in options.precisions and not options.precisions & {"tf32", "best"}:
        config.clear_flag(trt.BuilderFlag.TF32)
    for name, size in options.pools.items():
        pool = member(trt.MemoryPoolType, name, "memory pool", title)
        config.set_memory_pool_limit(pool, size)
    if options.avg_timing is not None:
        config.avg_timing_iterations = options.avg_timing
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    if options.serialize_plugins:
        config.plugins_to_serialize = [str(path) for path in options.plugins]
    if options.build_route:
        if not hasattr(config, "build_route"):
            raise QuantbenchError(f"{title} has no --build-route: it came with TensorRT 11.1; leave it out")
        config.build_route = options.build_route
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatible:
        level = member(trt.HardwareCompatibilityLevel, options.hardware_compatible, "compatibility level", title)
        config.hardware_compatibility_level = level
    if options.tactic_sources:
        config.set_tactic_sources(_tactic_sources(trt, config.get_tactic_sources(), options.tactic_sources, title))
    if options.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core


def add_profiles(
    builder: Any, network: Any, config: Any, options: BuildOptions
) -> tuple[tuple[Profile, ...], list[str]]:
    """Add the optimization profiles that the network needs; returns them, () for a static network, and notes."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs_of(network)}
    profiles, notes = complete_profiles(shapes, options.profiles, options.default_batch)
    for profile in profiles:
        if config.add_optimization_profile(make_profile(builder, profile)) < 0:
            raise QuantbenchError("TensorRT refused an optimization profile; the log says why")
    return profiles, list(notes)


def inputs_of(network: Any) -> list[Any]:
    """The network's input tensors."""
    return [network.get_input(index) for index in range(network.num_inputs)]


def layers_of(network: Any) -> list[Any]:
    """The network's layers."""
    return [network.get_layer(index) for index in range(network.num_layers)]


def use_timing_cache(trt: Any, config: Any, options: BuildOptions, title: str, *, edit: bool = False) -> None:
    """Let the build read and extend its timing cache. One that `--replay` names is taken as it is, and a kernel that it
    lacks is an error: no kernel is timed anew. With `edit`, `--choose KEY=TACTIC` is put into it.

    Raises QuantbenchError where the version cannot keep to a cache, or lacks the key.
    """
    replayed = options.replay if is_timing_cache(options.replay) else None
    if replayed is None and edit and options.replay is not None:
        raise QuantbenchError(
            f"{title} has no algorithm selector, so a log cannot be replayed: give --replay FILE.timing, the timing "
            f"cache "
            "of that build"
        )
    path = replayed or options.timing_cache
    if path is None:
        if edit and options.choose_tactics:
            raise QuantbenchError(
                "--choose edits a timing cache here: give --timing-cache FOLDER or --replay FILE.timing"
            )
        return
    from quantbench.engines import timing_cache

    cache = config.create_timing_cache(timing_cache.read(path))
    if replayed is not None:
        config.set_flag(member(trt.BuilderFlag, "ERROR_ON_TIMING_CACHE_MISS", "builder flag", title))
    if edit and options.choose_tactics:
        config.set_flag(member(trt.BuilderFlag, "EDITABLE_TIMING_CACHE", "builder flag", title))
        edit_timing_cache(trt, cache, options.choose_tactics)
    config.set_timing_cache(cache, False)


def keep_timing_cache(config: Any, path: Path) -> None:
    """Merge what the build has timed into the file."""
    from quantbench.engines import timing_cache

    def combine(theirs: bytes, ours: bytes) -> bytes:
        cache = config.create_timing_cache(theirs)
        if not cache.combine(config.create_timing_cache(ours), True):
            return ours
        return bytes(memoryview(cache.serialize()))

    timing_cache.merge(path, bytes(memoryview(config.get_timing_cache().serialize())), combine)


def member(enum: Any, name: str, what: str, version: str) -> Any:
    """Member of a TensorRT enum by name in any case; raises QuantbenchError with the known ones."""
    known = enum.__members__
    if name.upper() in known:
        return known[name.upper()]
    why = f" ({GONE[name.upper()]})" if name.upper() in GONE else ""
    raise QuantbenchError(f"{version} has no {what} {name}{why}; it has {', '.join(sorted(n.lower() for n in known))}")


def make_profile(builder: Any, profile: Profile) -> Any:
    """TensorRT's own object for `profile`."""
    made = builder.create_optimization_profile()
    for name, (low, best, high) in profile.shapes.items():
        made.set_shape(name, low, best, high)
    return made


def _tactic_sources(trt: Any, mask: int, wanted: Sequence[str], version: str) -> int:
    for text in wanted:
        if text[:1] not in ("+", "-"):
            raise QuantbenchError(f"--tactic-sources {text}: write +NAME or -NAME")
        bit = 1 << int(member(trt.TacticSource, text[1:], "tactic source", version))
        mask = mask | bit if text[0] == "+" else mask & ~bit
    return mask
