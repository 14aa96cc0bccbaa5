"""Where the result comes from."""

from collections.abc import Mapping

from quantbench.records.facts import Provenance
from quantbench.records.run import PtqRun, QatRun
from quantbench.report.blocks import Section, Table


def section(run: PtqRun | QatRun) -> Section:
    """Command, data, preprocessing, method, hashes; and of each stage when, where and with what it ran."""
    data, method = run.data, run.calibration.described if run.calibration else "none"
    on = " on a CUDA card" if run.calibration and run.calibration.device == "cuda" else ""
    rows = [
        ("Command", run.provenance.command),
        ("Model", f"{run.model.path}, sha256 {run.model.sha256[:16]}…"),
        ("Calibration", f"{method}, {data.images} images{on}, sha256 {data.sha256[:16]}…"),
        ("Preprocessing", f"{run.preprocess.words} ({run.preprocess.origin})"),
        ("Bias correction", "yes" if run.calibration and run.calibration.bias_correction else "no"),
    ]
    if run.calibration and run.calibration.weight_scales != "max":
        rows.append(("Weight scales", f"of the least squared error ({run.calibration.weight_scales})"))
    if run.calibration and run.calibration.source != "images":
        rows.append(("Ranges", f"taken from {run.calibration.source}, not calibrated in this run"))
    return Section("Provenance", (Table(("", ""), tuple(rows)), *stage_tables(run.stages_or_call())))


def stage_tables(stages: Mapping[str, Provenance]) -> tuple[Table, ...]:
    """When and where each stage ran; and the versions, one row where all had the same."""
    rows = tuple(
        (name, p.time, f"{p.seconds:.1f} s", f"{p.machine.processor}, {p.machine.cores} cores, {p.machine.system}")
        for name, p in stages.items()
    )
    versions: dict[str, list[str]] = {}
    for name, p in stages.items():
        text = ", ".join(f"{package} {version}" for package, version in p.versions.items())
        versions.setdefault(text, []).append(name)
    by = tuple((", ".join(names) if len(versions) > 1 else "all", text) for text, names in versions.items())
    return Table(("Stage", "Ended (UTC)", "Took", "Machine"), rows), Table(("Stages", "Versions"), by)
