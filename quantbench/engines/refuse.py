"""Refuse what a backend lacks, before anything is built: one line with version and replacement."""

from collections.abc import Iterator

from quantbench.engines.base import PRECISIONS, BuildOptions
from quantbench.engines.facts import FACTS, LACKS, NEEDS_GPU
from quantbench.errors import QuantbenchError


def refuse_lacking(options: BuildOptions, backend: str, version: str, *, gpu: bool) -> None:
    """Raise QuantbenchError for the first option asked for that `backend` lacks (or lacks without a GPU)."""
    unknown = sorted(options.precisions - set(PRECISIONS))
    if unknown:
        raise QuantbenchError(f"--precision {unknown[0]} is none of {', '.join(PRECISIONS)}")
    title = FACTS[backend].title
    for option in asked(options):
        instead = LACKS.get(option, {}).get(backend)
        if instead is not None:
            raise QuantbenchError(f"{title} {version} has no {option}: {instead}")
        if not gpu and backend in NEEDS_GPU.get(option, ()):
            raise QuantbenchError(f"{title} {version} needs an NVIDIA GPU for {option}; leave it out on this machine")
    if options.gpu_fallback and options.dla_core is None:
        raise QuantbenchError("--gpu-fallback goes with --dla-core; give both or neither")
    if options.serialize_plugins and not options.plugins:
        raise QuantbenchError("--serialize-plugins goes with --plugin LIB.so; give both or neither")
    if options.exclude_lean_runtime and not options.version_compatible:
        raise QuantbenchError("--exclude-lean-runtime goes with --version-compatible; give both or neither")
    if options.precision_constraints != "none" and not options.layer_precisions:
        raise QuantbenchError("--precision-constraints goes with --layer-precision PATTERN=PRECISION; give both")


def asked(options: BuildOptions) -> Iterator[str]:
    """Options that differ from the defaults, spelled as the command line has them."""
    for given, option in (
        (options.targets, "--target"),
        (options.strongly_typed is False, "--weakly-typed"),
        (options.layer_precisions, "--layer-precision"),
        (options.precision_constraints != "none", "--precision-constraints"),
        (options.profiles, "--shapes"),
        (options.pools, "--pool"),
        (options.timing_cache, "--timing-cache"),
        (options.tactic_sources, "--tactic-sources"),
        (options.optimization_level is not None, "--optimization-level"),
        (options.refittable, "--refittable"),
        (options.version_compatible, "--version-compatible"),
        (options.hardware_compatible, "--hardware-compatible"),
        (options.sparsity, "--sparsity"),
        (options.dla_core is not None, "--dla-core"),
        (options.gpu_fallback, "--gpu-fallback"),
        (options.plugins, "--plugin"),
        (options.serialize_plugins, "--serialize-plugins"),
        (options.exclude_lean_runtime, "--exclude-lean-runtime"),
        (options.avg_timing is not None, "--avg-timing"),
        (options.aux_streams is not None, "--aux-streams"),
        (options.build_route, "--build-route"),
        (options.forbid_tactics, "--forbid-tactic"),
        (options.choose_tactics, "--choose"),
        (options.replay is not None, "--replay"),
    ):
        if given:
            yield option
    yield from (f"--precision {name}" for name in sorted(options.precisions))
