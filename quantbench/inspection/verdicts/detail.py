"""What the sources do not tell, in clear words."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict


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
    log, build = inspection.log, inspection.build
    if log is not None and build is not None and build.stages and not build.layers:
        found.append(
            Verdict("cut_off", "note", "The log ends before the engine's layers",
                    f"It holds {log.lines} lines and no layer dump: cut off, failed, or not verbose.",
                    "Give the whole verbose log, or the exported layer information.",
                    tuple(Item(e.message[:200], f"line {e.line}") for e in build.errors))
        )  # fmt: skip
    return found
