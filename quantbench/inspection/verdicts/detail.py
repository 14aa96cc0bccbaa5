"""What the sources do not tell, in clear words."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.verdicts.verdict import Item, Verdict, count


def judge(inspection: Inspection) -> list[Verdict]:
    """Names-only JSON, Myelin blocks, a profile that fits only partly, a log that stops before the end."""
    found: list[Verdict] = []
    if inspection.names_only:
        found.append(
            Verdict(
                "names_only", "note", "Only names of layers, no types, precisions or kernels",
                "The engine was built without detailed profiling verbosity, or only a profile was given.",
                "Build with --profilingVerbosity=detailed (ProfilingVerbosity.DETAILED) and export again; quantbench "
                "joins the names with the log of the build, if you name that too.",
            )
        )  # fmt: skip
    if inspection.unjoined:
        items = tuple(Item(row.name, "profiled, but not among the layers", row.mean_ms) for row in inspection.unjoined)
        found.append(
            Verdict("unjoined", "note", f"{len(items)} rows of the profile belong to no layer",
                    "Profile and layers come from different builds, or the profile holds copies that the dump lacks.",
                    "", items)
        )  # fmt: skip
    found += _missing_parts(inspection)
    return found


def _missing_parts(inspection: Inspection) -> list[Verdict]:
    """What a log lacks: all of TensorRT's lines, the optimizer's, or the engine's layers."""
    log, build = inspection.log, inspection.build
    if log is None or build is None or inspection.layers:
        return []
    lines = sum(n for kind, n in log.kinds.items() if kind not in NOT_LOG_LINES)
    if not lines:
        return [
            Verdict("no_log", "note", "No line of TensorRT in this file",
                    f"None of its {count(log.lines, 'line')} looks like TensorRT's or trtexec's.",
                    "Give the verbose log of a build: trtexec --verbose, polygraphy -vv, Logger.VERBOSE.")
        ]  # fmt: skip
    errors = tuple(Item(e.message[:200], f"line {e.line}") for e in build.errors)
    if build.stages or build.nodes or build.passes:
        why = f"It holds {count(log.lines, 'line')} and no layer dump: cut off, failed, or not of detailed verbosity."
        return [
            Verdict("cut_off", "note", "The log ends before the engine's layers", why,
                    "Give the whole log, built with --profilingVerbosity=detailed, or the exported layer information.",
                    errors)
        ]  # fmt: skip
    if "onnx-header" in log.kinds or "trtexec" in log.kinds or build.warnings or build.scales or build.missing_scales:
        return [
            Verdict("not_verbose", "note", "No passes and no layers in this log",
                    "It holds what TensorRT logs at its usual level, not what the builder did.",
                    "Build once more with --verbose (Logger.VERBOSE) and --profilingVerbosity=detailed.")
        ]  # fmt: skip
    return []
