"""quantbench's build options as a trtexec command line."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from quantbench.engines.base import BuildOptions
from quantbench.engines.shapes import Profile, spelled
from quantbench.errors import QuantbenchError

_POOLS = {
    "workspace": "workspace", "dla_managed_sram": "dlaSRAM", "dla_local_dram": "dlaLocalDRAM",
    "dla_global_dram": "dlaGlobalDRAM", "tactic_shared_memory": "tacticSharedMem", "tactic_dram": "tacticDRAM",
}  # fmt: skip
_COMPATIBLE = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
VERSIONS = (8, 10, 11)


def as_trtexec(
    model: Path, options: BuildOptions, out: Path, ranges: Path | None = None, major: int = 10
) -> tuple[str, tuple[str, ...]]:
    """The command line of trtexec `major` (8, 10 or 11) that builds the same, and what it cannot say.

    Raises QuantbenchError for another version.
    """
    if major not in VERSIONS:
        raise QuantbenchError(f"--as-trtexec {major} is none of {', '.join(map(str, VERSIONS))}")
    words = ["trtexec", f"--onnx={model}", f"--saveEngine={out}"]
    missing: list[str] = []
    for index, profile in enumerate(options.profiles):
        if len(options.profiles) > 1:
            words.append(f"--profile={index}")
        words += _shapes(profile)
    words += _precision(options, ranges, major, missing)
    if options.pools:
        words.append("--memPoolSize=" + ",".join(_pool(name, size) for name, size in options.pools.items()))
    words += _plain(options)
    if options.timing_cache is not None:
        missing.append("--timing-cache: trtexec wants a file, --timingCacheFile=FILE; quantbench's is a folder")
    if options.targets:
        missing.append("--target: trtexec builds for the GPU of its machine; TensorRT-RTX has --computeCapabilities")
    if options.calibrator is not None:
        missing.append(
            "--calib-dir: trtexec runs no calibrator; write a cache (quantbench ptq, cache from-run) for --calib"
        )
    if options.forbid_tactics or options.choose_tactics or options.replay is not None:
        missing.append("--forbid-tactic, --choose, --replay: trtexec chooses the fastest kernels")
    words += ["--profilingVerbosity=detailed", "--verbose", "--skipInference" if major > 8 else "--buildOnly"]
    return shlex.join(words), tuple(missing)


def _precision(options: BuildOptions, ranges: Path | None, major: int, missing: list[str]) -> list[str]:
    words = []
    wanted = sorted(options.precisions)
    if options.strongly_typed and major in (9, 10):
        words.append("--stronglyTyped")
    if major >= 11:
        if set(wanted) - {"fp32", "tf32"}:
            missing.append(
                f"--precision {','.join(wanted)}: trtexec 11 lost its flag; quantbench build casts the ONNX before "
                f"it builds"
            )
        if ranges is not None:
            missing.append(
                f"--ranges {ranges}: trtexec 11 has no --calib; quantbench cache to-qdq puts them into the model"
            )
        if options.layer_precisions:
            missing.append("--layer-precision: trtexec 11 takes types from the ONNX")
        return [*words, *(["--noTF32"] if wanted == ["fp32"] else [])]
    for name in wanted:
        words += {"fp32": [] if set(wanted) & {"tf32", "best"} else ["--noTF32"], "tf32": []}.get(name, [f"--{name}"])
    if ranges is not None:
        words.append(f"--calib={ranges}")
    if options.layer_precisions:
        words.append("--layerPrecisions=" + ",".join(f"{name}:{kind}" for name, kind in options.layer_precisions))
    if options.precision_constraints != "none":
        words.append(f"--precisionConstraints={options.precision_constraints}")
    return words


def _plain(options: BuildOptions) -> list[str]:
    """Options that both spell with one word."""
    words: list[str] = []
    switches: Mapping[str, bool] = {
        "--refit": options.refittable, "--versionCompatible": options.version_compatible,
        "--excludeLeanRuntime": options.exclude_lean_runtime, "--sparsity=enable": options.sparsity,
        "--allowGPUFallback": options.gpu_fallback,
    }  # fmt: skip
    words += [word for word, on in switches.items() if on]
    if options.hardware_compatible:
        level = _COMPATIBLE.get(options.hardware_compatible, options.hardware_compatible)
        words.append(f"--hardwareCompatibilityLevel={level}")
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.tactic_sources:
        words.append(f"--tacticSources={','.join(options.tactic_sources)}")
    if options.dla_core is not None:
        words.append(f"--useDLACore={options.dla_core}")
    if options.avg_timing is not None:
        words.append(f"--avgTiming={options.avg_timing}")
    if options.aux_streams is not None:
        words.append(f"--maxAuxStreams={options.aux_streams}")
    if options.build_route:
        words.append(f"--setBuildRoute={options.build_route}")
    for library in options.plugins:
        words.append(f"--{'dynamicPlugins' if options.serialize_plugins else 'staticPlugins'}={library}")
    return words


def _shapes(profile: Profile) -> list[str]:
    """All three shapes of each input; one word where they are equal."""
    triples = profile.shapes.items()
    if all(low == best == high for _, (low, best, high) in triples):
        return ["--shapes=" + ",".join(f"{name}:{spelled(best)}" for name, (_, best, _) in triples)]
    return [
        f"--{kind}Shapes=" + ",".join(f"{name}:{spelled(triple[index])}" for name, triple in triples)
        for index, kind in enumerate(("min", "opt", "max"))
    ]


def _pool(name: str, size: int) -> str:
    """In the largest unit that says it exactly; trtexec's sizes are MiB without a suffix."""
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size % factor == 0:
            return f"{_POOLS.get(name, name)}:{size // factor}{unit}"
    return f"{_POOLS.get(name, name)}:{size}B"
